package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

func init() {
	behaviours["output"] = output
	behaviours["log"] = log
	behaviours["say"] = say
	behaviours["digest"] = digest
	behaviours["tell"] = tell
}

// output(bytes=1000): binary output of that size: bytes 0 to 255 over and over. It is written piece by piece.
func output(t *task) error {
	block := make([]byte, 1<<16)
	for i := range block {
		block[i] = byte(i)
	}
	size := int(t.number("bytes", 1000))
	if t.output == "" {
		return repeat(os.Stdout, block, size)
	}
	file, err := os.OpenFile(t.output, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	return repeat(file, block, size)
}

// log(bytes=1000, line=100): a log of that size, in numbered lines of so many characters (0: in one line without an end), and the size
// as output.
func log(t *task) error {
	size, length := int(t.number("bytes", 1000)), int(t.number("line", 100))
	if length == 0 {
		if err := repeat(os.Stdout, bytes.Repeat([]byte("x"), 1<<16), size); err != nil {
			return err
		}
		return t.answer(size)
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	filling := strings.Repeat("x", length)
	for left, number := size, 0; left > 0; left, number = left-length, number+1 {
		line := fmt.Sprintf("%d ", number) + filling
		if _, err := out.WriteString(line[:min(left, length)-1] + "\n"); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return t.answer(size)
}

// say(text="", hex="", before=0, after=0): writes the text and then the bytes to the log, as they are, between so many bytes of x.
func say(t *task) error {
	raw, err := hex.DecodeString(t.text("hex", ""))
	if err != nil {
		return err
	}
	if err := repeat(os.Stdout, []byte("x"), int(t.number("before", 0))); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(append([]byte(t.text("text", "")), raw...)); err != nil {
		return err
	}
	if err := repeat(os.Stdout, []byte("x"), int(t.number("after", 0))); err != nil {
		return err
	}
	return t.answer(len(raw))
}

// tell(): writes to the log all that it was given, as a program does that was left in debug mode: its variables, as they are and decoded,
// and its token.
func tell(t *task) error {
	for _, each := range os.Environ() {
		name, value, _ := strings.Cut(each, "=")
		fmt.Printf("%s=%s (%s)\n", name, value, variable(name))
	}
	token, err := os.ReadFile(variable("TOKEN_FILE"))
	if err != nil {
		return err
	}
	fmt.Printf("the token is %s.\n", token)
	return t.answer("told")
}

// digest(): answers the size and the SHA-256 of the input. It is what is done with an input that is too large to be read as a question.
func digest(t *task) error {
	input, err := os.Open(variable("INPUT_FILE"))
	if err != nil {
		return err
	}
	defer input.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, input)
	if err != nil {
		return err
	}
	return t.answer(map[string]any{"bytes": size, "sha256": hex.EncodeToString(sum.Sum(nil))})
}

// repeat writes a block over and over, up to a size.
func repeat(to io.Writer, block []byte, size int) error {
	out := bufio.NewWriterSize(to, 1<<16)
	for left := size; left > 0; left -= len(block) {
		if _, err := out.Write(block[:min(left, len(block))]); err != nil {
			return err
		}
	}
	return out.Flush()
}
