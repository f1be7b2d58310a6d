// Package lint holds the house rules that no linter knows: which package may
// import which, and how large things may grow. They are tests, run by make test;
// the package has nothing to call.
package lint
