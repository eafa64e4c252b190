package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func init() { behaviours["fill"] = fill }

// end is how far a way of taking room went.
type end struct {
	Bytes int    `json:"bytes,omitempty"`
	Files int    `json:"files,omitempty"`
	Error string `json:"error,omitempty"`
}

// fill(ways="file,long,unlinked,inodes,at:/path", folder="/mnt/tmp", bytes=6e7, files=20000, seconds=0): takes room in each of these ways,
// one after the other, until it has so much or there is no more; keeps that of each for the seconds, and gives it back. What became of each.
//
//	file      a file, as anybody writes one
//	long      a file below more folders than a path may have letters
//	unlinked  a file that has no name any more
//	inodes    empty files
//	at:/path  a file at this path, or, if it is a folder, in it
func fill(t *task) error {
	folder, seconds := t.text("folder", "/mnt/tmp"), t.number("seconds", 0)
	bytes, files := int(t.number("bytes", 6e7)), int(t.number("files", 20000))
	ends := map[string]end{}
	for _, way := range t.list("ways") {
		done, giveBack := take(way, folder, bytes, files)
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		giveBack()
		ends[way] = done
	}
	return t.answer(ends)
}

func take(way, folder string, bytes, files int) (end, func()) {
	switch way {
	case "inodes":
		place := filepath.Join(folder, "many")
		done := end{Error: words(os.Mkdir(place, 0o755))}
		for done.Error == "" && done.Files < files {
			file, err := os.Create(filepath.Join(place, fmt.Sprint(done.Files)))
			if err != nil {
				done.Error = words(err)
				break
			}
			file.Close()
			done.Files++
		}
		return done, func() { os.RemoveAll(place) }
	case "long":
		// Kept from here, as no path leads back.
		back, err := os.Open(".")
		if err == nil {
			err = os.Chdir(folder)
		}
		for level := 0; err == nil && level < 20; level++ {
			name := strings.Repeat("d", 250)
			if err = os.Mkdir(name, 0o755); err == nil || os.IsExist(err) {
				err = os.Chdir(name)
			}
		}
		if err != nil {
			return end{Error: words(err)}, func() {}
		}
		done := write("much", os.O_CREATE, bytes)
		return done, func() { os.Remove("much"); back.Chdir() }
	case "unlinked":
		path := filepath.Join(folder, "nameless")
		file, err := os.Create(path)
		if err != nil {
			return end{Error: words(err)}, func() {}
		}
		os.Remove(path)
		return pour(file, bytes), func() { file.Close() }
	default:
		path, flag := filepath.Join(folder, "much"), os.O_CREATE
		if at, ok := strings.CutPrefix(way, "at:"); ok {
			path, flag = at, os.O_APPEND
			if about, err := os.Stat(at); err == nil && about.IsDir() {
				path, flag = filepath.Join(at, "much"), os.O_CREATE
			}
		}
		return write(path, flag, bytes), func() {
			if flag == os.O_CREATE {
				os.Remove(path)
			}
		}
	}
}

func write(path string, flag, bytes int) end {
	file, err := os.OpenFile(path, flag|os.O_WRONLY, 0o644)
	if err != nil {
		return end{Error: words(err)}
	}
	defer file.Close()
	return pour(file, bytes)
}

func pour(file *os.File, bytes int) end {
	block := make([]byte, 1<<16)
	done := end{}
	for done.Bytes < bytes {
		written, err := file.Write(block)
		done.Bytes += written
		if err != nil {
			done.Error = words(err)
			break
		}
	}
	return done
}

// words is what the system says, without the path.
func words(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return strings.TrimSpace(text[strings.LastIndex(text, ":")+1:])
}
