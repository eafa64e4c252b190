// Command registry is a real image registry, the client crane, and a maker of password files, in one static binary:
//
//	registry serve CONFIG.yaml       distribution/distribution
//	registry crane push|digest|…     google/go-containerregistry's crane; also when called by the name crane
//	registry htpasswd USER PASSWORD  prints the line of a password file
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/go-containerregistry/cmd/crane/cmd"
	"github.com/google/go-containerregistry/pkg/logs"
	"golang.org/x/crypto/bcrypt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	arguments := os.Args[1:]
	switch {
	case filepath.Base(os.Args[0]) == "crane":
		return crane(arguments)
	case len(arguments) > 0 && arguments[0] == "crane":
		return crane(arguments[1:])
	case len(arguments) > 0 && arguments[0] == "serve":
		registry.RootCmd.SetArgs(arguments)
		return registry.RootCmd.Execute()
	case len(arguments) == 3 && arguments[0] == "htpasswd":
		hash, err := bcrypt.GenerateFromPassword([]byte(arguments[2]), bcrypt.MinCost)
		if err != nil {
			return err
		}
		fmt.Printf("%s:%s\n", arguments[1], hash)
		return nil
	}
	return fmt.Errorf("usage: registry serve CONFIG.yaml | crane … | htpasswd USER PASSWORD, not %q", arguments)
}

func crane(arguments []string) error {
	logs.Warn.SetOutput(os.Stderr)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	cmd.Root.SetArgs(arguments)
	return cmd.Root.ExecuteContext(ctx)
}
