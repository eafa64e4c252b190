// Command odd is an algorithm that misbehaves to order: the input's method names the behaviour, its kwargs the measure,
// as in {"method": "exit", "kwargs": {"code": 3}}. A command line says the same: odd exit code=3. Then it needs neither
// input nor environment, and what it would write to the output goes to its standard output.
package main

import (
	"encoding/base32"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// task is one run of a behaviour: what it was asked for, and where its output goes.
type task struct {
	Method string         `json:"method"`
	Args   []any          `json:"args"`
	Kwargs map[string]any `json:"kwargs"`
	output string         // the file; empty means standard output
}

func main() {
	task, err := read(os.Args[1:])
	if err == nil {
		behaviour, known := behaviours[task.Method]
		if !known {
			err = fmt.Errorf("there is no method %q", task.Method)
		} else {
			fmt.Fprintf(os.Stderr, "odd: %s %v\n", task.Method, task.Kwargs)
			err = behaviour(task)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "odd:", err)
		os.Exit(1)
	}
}

// muchInput is how large an input may be to be read; of a larger one only the digest is asked for.
const muchInput = 10 << 20

// read takes the task from the command line, if there is one, and else from the files that vantage6 names.
func read(arguments []string) (*task, error) {
	if len(arguments) > 0 {
		kwargs := map[string]any{}
		for _, argument := range arguments[1:] {
			key, text, _ := strings.Cut(argument, "=")
			var value any
			if json.Unmarshal([]byte(text), &value) != nil {
				value = text
			}
			kwargs[key] = value
		}
		return &task{Method: arguments[0], Kwargs: kwargs}, nil
	}
	input := variable("INPUT_FILE")
	if input == "" {
		return nil, fmt.Errorf("INPUT_FILE is not set, and there is no command line")
	}
	read := task{output: variable("OUTPUT_FILE")}
	if about, err := os.Stat(input); err != nil || about.Size() > muchInput {
		read.Method = "digest"
		return &read, err
	}
	text, err := os.ReadFile(input)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, fmt.Errorf("the input in %s is not JSON: %w", input, err)
	}
	return &read, nil
}

// variable reads an environment variable as the node writes it: base32, with ! for = (which not every shell allows).
func variable(name string) string {
	value := os.Getenv(name)
	decoded, err := base32.StdEncoding.DecodeString(strings.ReplaceAll(value, "!", "="))
	if err != nil {
		return value
	}
	return string(decoded)
}

func (t *task) text(key, otherwise string) string {
	if value, ok := t.Kwargs[key]; ok {
		return fmt.Sprint(value)
	}
	return otherwise
}

// list is what a text names, separated by commas.
func (t *task) list(key string) []string {
	return strings.FieldsFunc(t.text(key, ""), func(letter rune) bool { return letter == ',' })
}

func (t *task) number(key string, otherwise float64) float64 {
	if value, ok := t.Kwargs[key].(float64); ok {
		return value
	}
	return otherwise
}

// answer writes a value as JSON to the output.
func (t *task) answer(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return t.write(text)
}

func (t *task) write(content []byte) error {
	if t.output == "" {
		_, err := os.Stdout.Write(append(content, '\n'))
		return err
	}
	return os.WriteFile(t.output, content, 0o644)
}
