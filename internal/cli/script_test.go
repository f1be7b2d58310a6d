package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"antipode": func() { os.Exit(Main()) }})
}

// TestScripts runs testdata/*.txtar: what a user types, and what is answered.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			base := freeBase(t)
			env.Setenv("BASE", strconv.Itoa(base))
			env.Setenv("LINK", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+spec.OffsetLink)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dynamodb":       runDynamoDB,
			"dynamodb-until": runDynamoDBUntil,
			"dynamodb-retry": runDynamoDBRetry,
			"kill-region":    killRegion,
			"until":          until,
			"retry-until":    retryUntil,
			"base-port":      basePort,
			"answers":        answers,
		},
	})
}

var taken atomic.Int64

// freeBase finds a base port for three regions. Each test gets another.
func freeBase(t *testing.T) int {
	t.Helper()
	for {
		// Below the ports that the system gives to outgoing connections.
		n := int(taken.Add(1))
		base := 10100 + (os.Getpid()*7+n*31)%220*spec.PortStride
		if n > 220 {
			t.Fatal("no free ports")
		}
		s, err := spec.Builtin().WithBasePort(base)
		if err != nil {
			t.Fatal(err)
		}
		if free(t.Context(), s) {
			return base
		}
	}
}

// basePort puts the test's base port into a spec.
func basePort(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(ts.ReadFile(args[0]), "BASE", ts.Getenv("BASE"))), 0o600))
}

// runDynamoDB is a client: dynamodb DIR REGION put|get TABLE ID [VALUE]. It uses
// the AWS SDK with what the credentials file says.
func runDynamoDB(ts *testscript.TestScript, neg bool, args []string) {
	out, err := callDynamoDB(ts, args)
	if neg != (err != nil) {
		ts.Fatalf("dynamodb %q: %v", args, err)
	}
	_, err = fmt.Fprintln(ts.Stdout(), out)
	ts.Check(err)
}

// runDynamoDBUntil repeats a get until it shows the value.
func runDynamoDBUntil(ts *testscript.TestScript, _ bool, args []string) {
	want := args[len(args)-1]
	retry(ts, func() error {
		got, err := callDynamoDB(ts, args[:len(args)-1])
		if err == nil && got != want {
			err = fmt.Errorf("it shows %q", got)
		}
		return err
	})
}

// runDynamoDBRetry repeats a call until it works, as clients do.
func runDynamoDBRetry(ts *testscript.TestScript, _ bool, args []string) {
	retry(ts, func() error {
		_, err := callDynamoDB(ts, args)
		return err
	})
}

func callDynamoDB(ts *testscript.TestScript, args []string) (string, error) {
	dir, region, verb, table, id := ts.MkAbs(args[0]), args[1], args[2], args[3], args[4]
	profiles, err := readCredentials(dir)
	ts.Check(err)
	for name, p := range profiles {
		if string(name) != region {
			continue
		}
		client := dynamodb.New(dynamodb.Options{
			BaseEndpoint: &p.endpoint, Region: region, RetryMaxAttempts: 1,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: p.id, SecretAccessKey: p.secret}, nil
			}),
		})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		key := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}
		if verb == "put" {
			key["v"] = &types.AttributeValueMemberS{Value: args[5]}
			_, err := client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: key})
			return "", err
		}
		got, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key})
		if err != nil {
			return "", err
		}
		if v, ok := got.Item["v"].(*types.AttributeValueMemberS); ok {
			return v.Value, nil
		}
		return "", nil
	}
	return "", fmt.Errorf("no credentials for %s in %s", region, dir)
}

// killRegion sends SIGKILL to a region: kill-region DIR REGION.
func killRegion(ts *testscript.TestScript, _ bool, args []string) {
	a := &app{name: "antipode"}
	in, err := a.openInstall(ts.MkAbs(args[0]))
	ts.Check(err)
	r, err := in.region(args[1])
	ts.Check(err)
	status, err := in.askStatus(context.Background(), r)
	ts.Check(err)
	ts.Check(syscall.Kill(status.PID, syscall.SIGKILL))
}

// answers waits until a region's operator port answers: answers DIR REGION.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	retry(ts, func() error {
		in, err := (&app{name: "antipode"}).openInstall(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		r, err := in.region(args[1])
		ts.Check(err)
		return in.call(context.Background(), r, func(ctx context.Context, c *operator.Client) error {
			_, err := c.Health(ctx)
			return err
		})
	})
}

// until waits until a file has something in it: until FILE REGEXP.
func until(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	retry(ts, func() error {
		said, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && !want.Match(said) {
			err = fmt.Errorf("%s does not say %q but\n%s", args[0], args[1], said)
		}
		return err
	})
}

// retryUntil repeats a command that fails until it fails for this reason:
// retry-until REGEXP COMMAND...
func retryUntil(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	retry(ts, func() error {
		said := new(strings.Builder)
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir, cmd.Stderr = ts.MkAbs("."), said
		cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "HOME="+ts.Getenv("HOME"))
		err := cmd.Run()
		if err == nil || !want.MatchString(said.String()) {
			return fmt.Errorf("it ended with %w and says %q", cmp.Or(err, errors.New("success")), said)
		}
		return nil
	})
}

// retry tries until it works, for half a minute.
func retry(ts *testscript.TestScript, try func() error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-giveUp:
			ts.Fatalf("in vain: %v", err)
		}
	}
}
