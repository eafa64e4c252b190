package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// behaviours are the methods, by name. Numbers of seconds may be fractions.
var behaviours = map[string]func(*task) error{
	"exit":           exit,
	"release":        release,
	"silent":         silent,
	"sleep":          sleep,
	"stubborn":       stubborn,
	"replace_output": replaceOutput,
	"count":          count,
	"connect":        connect,
	"listen":         listen,
	"explore":        explore,
	"sweep":          sweep,
	"attack":         attack,
}

// exit(code=1): ends with that code, after having written an output.
func exit(t *task) error {
	if err := t.answer("about to exit"); err != nil {
		return err
	}
	os.Exit(int(t.number("code", 1)))
	return nil
}

// silent(): ends well without having written any output.
func silent(*task) error { return nil }

// sleep(seconds=1): sleeps, then answers how long it was to. SIGTERM ends it at once; `odd release` ends its sleep.
func sleep(t *task) error {
	seconds := t.number("seconds", 1)
	rest(seconds)
	return t.answer(seconds)
}

// releases are the signals by which somebody ends the sleep; caught from the beginning, so that none comes too early.
var releases = make(chan os.Signal, 1)

func init() { signal.Notify(releases, syscall.SIGUSR1) }

// rest sleeps for so many seconds, or until it is released.
func rest(seconds float64) {
	select {
	case <-releases:
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
}

// release(): beside a container's algorithm (`kubectl exec`): what sleeps there goes on.
func release(*task) error { return syscall.Kill(1, syscall.SIGUSR1) }

// stubborn(seconds=60): sleeps and doesn't care about SIGTERM.
func stubborn(t *task) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	return sleep(t)
}

// replace_output(): takes the output file away and puts in its place a new one that only its owner may read, as programs
// do that write a file beside the old one and rename it.
func replaceOutput(t *task) error {
	fresh := filepath.Join(filepath.Dir(t.output), ".fresh")
	if err := os.WriteFile(fresh, []byte(`"replaced"`), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, t.output)
}

// count(name="executions", seconds=0): adds a line to a file in the folder that the runs of a job share, sleeps as sleep does, and
// answers all lines so far: whoever ran twice is seen.
func count(t *task) error {
	folder := variable("TEMPORARY_FOLDER")
	if folder == "" {
		folder = "/mnt/tmp"
	}
	path := filepath.Join(folder, t.text("name", "executions"))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	fmt.Fprintln(file, host, time.Now().UTC().Format(time.RFC3339Nano))
	if err := file.Close(); err != nil {
		return err
	}
	rest(t.number("seconds", 0))
	lines, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return t.answer(strings.Split(strings.TrimSpace(string(lines)), "\n"))
}

// connect(addresses="host:port,…", seconds=2): tries each over TCP, answers "open", "refused" or the reason for each.
func connect(t *task) error {
	patience := time.Duration(t.number("seconds", 2) * float64(time.Second))
	return t.answer(inParallel(t.list("addresses"), func(address string) string { return knock(address, patience) }))
}

// listen(port=8080): accepts connections, says "hello" on each, and never ends of itself.
func listen(t *task) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", int(t.number("port", 8080))))
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(connection, "hello")
		connection.Close()
	}
}
