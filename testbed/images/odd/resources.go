package main

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func init() {
	behaviours["memory"] = memory
	behaviours["disk"] = disk
	behaviours["folder_output"] = folderOutput
	behaviours["spin"] = spin
}

// memory(bytes=1000000, seconds=60): takes so much memory, really, and keeps it.
func memory(t *task) error {
	taken := make([]byte, int(t.number("bytes", 1e6)))
	for i := 0; i < len(taken); i += 4096 {
		taken[i] = 1
	}
	time.Sleep(time.Duration(t.number("seconds", 60) * float64(time.Second)))
	return t.answer(len(taken))
}

// disk(bytes=1000000, folder="/mnt/tmp", seconds=60): writes a file of that size there, and keeps it.
func disk(t *task) error {
	file, err := os.Create(filepath.Join(t.text("folder", "/mnt/tmp"), "much"))
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<16)
	size := int(t.number("bytes", 1e6))
	for left := size; left > 0; left -= len(block) {
		if _, err := file.Write(block[:min(left, len(block))]); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(t.number("seconds", 60) * float64(time.Second)))
	return t.answer(size)
}

// folder_output(): puts a folder in the output's place.
func folderOutput(t *task) error {
	if err := os.Remove(t.output); err != nil {
		return err
	}
	return os.Mkdir(t.output, 0o755)
}

// spin(seconds=1): calculates for longer than it allows itself, so that the kernel kills it by SIGKILL. A container's first
// process can't do that to itself in any other way: signals from inside, which it doesn't catch, never reach it.
func spin(t *task) error {
	seconds := uint64(t.number("seconds", 1))
	if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: seconds, Max: seconds}); err != nil {
		return err
	}
	for {
	}
}
