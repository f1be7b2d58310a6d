package expr

import (
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // an attribute's name, a function's, or a keyword
	tokenName             // #name
	tokenValue            // :value
	tokenNumber           // the index of a list's element
	tokenSign             // an operator or a punctuation mark
	tokenBad              // what no expression contains
)

// token is a piece of an expression's text, text[from:to].
type token struct {
	kind     tokenKind
	from, to int
	text     string
}

// is tells whether the token is that operator or punctuation mark.
func (t token) is(sign string) bool { return t.kind == tokenSign && t.text == sign }

// keyword tells whether the token is that keyword, which is given in capitals.
func (t token) keyword(word string) bool {
	return t.kind == tokenWord && len(t.text) == len(word) && strings.EqualFold(t.text, word)
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// wordEnd is where the run of letters, digits and underscores that starts at from ends.
func wordEnd(s string, from int) int {
	for from < len(s) && isWord(s[from]) {
		from++
	}
	return from
}

// tokenize cuts the text up. The last token is the end.
func tokenize(text string) []token {
	tokens := make([]token, 0, len(text)/4+2)
	for i := 0; i < len(text); {
		if strings.IndexByte(" \t\r\n", text[i]) >= 0 {
			i++
			continue
		}
		kind, end := next(text, i)
		tokens = append(tokens, token{kind: kind, from: i, to: end, text: text[i:end]})
		i = end
	}
	return append(tokens, token{kind: tokenEnd, from: len(text), to: len(text), text: "<EOF>"})
}

// next finds the kind and the end of the token at i.
func next(text string, i int) (tokenKind, int) {
	switch c := text[i]; {
	case isDigit(c):
		end := i
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		return tokenNumber, end
	case isWord(c):
		return tokenWord, wordEnd(text, i)
	case c == '#' || c == ':':
		end := wordEnd(text, i+1)
		switch {
		case end == i+1:
			return tokenBad, end
		case c == '#':
			return tokenName, end
		}
		return tokenValue, end
	case c == '<' && strings.HasPrefix(text[i+1:], ">"),
		(c == '<' || c == '>') && strings.HasPrefix(text[i+1:], "="):
		return tokenSign, i + 2
	case strings.IndexByte("()[].,=<>+-", c) >= 0:
		return tokenSign, i + 1
	}
	_, size := utf8.DecodeRuneInString(text[i:])
	return tokenBad, i + size
}
