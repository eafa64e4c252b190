package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// explore(addresses="host:port,…", udp="host:port,…", names="…", seconds=3): a curious algorithm. What it can reach by TCP,
// which name servers answer, how long looking up a name takes, and what the kernel lets it do.
func explore(t *task) error {
	patience := time.Duration(t.number("seconds", 3) * float64(time.Second))
	return t.answer(map[string]any{
		"tcp":   inParallel(t.list("addresses"), func(address string) string { return knock(address, patience) }),
		"dns":   inParallel(t.list("udp"), func(address string) string { return ask(address, patience) }),
		"names": inParallel(t.list("names"), lookUp),
		"may":   powers(),
		"sees":  surroundings(),
	})
}

// sweep(prefix="10.244.0.", port=8080, seconds=2): knocks at all 254 addresses of a /24, answers those that open.
func sweep(t *task) error {
	patience := time.Duration(t.number("seconds", 2) * float64(time.Second))
	var addresses []string
	for last := 1; last < 255; last++ {
		addresses = append(addresses, fmt.Sprintf("%s%d:%d", t.text("prefix", ""), last, int(t.number("port", 8080))))
	}
	open := []string{}
	for address, outcome := range inParallel(addresses, func(address string) string { return knock(address, patience) }) {
		if outcome == "open" {
			open = append(open, address)
		}
	}
	return t.answer(open)
}

func inParallel(items []string, try func(string) string) map[string]string {
	outcomes := map[string]string{}
	var lock sync.Mutex
	var all sync.WaitGroup
	for _, item := range items {
		all.Add(1)
		go func() {
			defer all.Done()
			outcome := try(item)
			lock.Lock()
			defer lock.Unlock()
			outcomes[item] = outcome
		}()
	}
	all.Wait()
	return outcomes
}

// knock tries a TCP connection: "open", "refused", "timeout", or the reason.
func knock(address string, patience time.Duration) string {
	connection, err := net.DialTimeout("tcp", address, patience)
	switch {
	case err == nil:
		connection.Close()
		return "open"
	case strings.Contains(err.Error(), "refused"):
		return "refused"
	case strings.Contains(err.Error(), "timeout"):
		return "timeout"
	}
	return err.Error()
}

// ask sends a question for the name "example." and waits for any answer.
func ask(address string, patience time.Duration) string {
	connection, err := net.DialTimeout("udp", address, patience)
	if err != nil {
		return err.Error()
	}
	defer connection.Close()
	question := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01"
	connection.Write([]byte(question))
	connection.SetReadDeadline(time.Now().Add(patience))
	if _, err := connection.Read(make([]byte, 512)); err != nil {
		return "silent"
	}
	return "answered"
}

// lookUp says whether a name has an address, and in how many whole seconds that was known.
func lookUp(name string) string {
	limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	began := time.Now()
	addresses, err := net.DefaultResolver.LookupHost(limit, name)
	seconds := int(time.Since(began).Seconds())
	if err != nil {
		return fmt.Sprintf("unknown after %d s", seconds)
	}
	return fmt.Sprintf("%s after %d s", strings.Join(addresses, " "), seconds)
}

// powers tries what only the privileged may: "no" and the kernel's reason, or "YES". Only as the first process of a container:
// anywhere else it might well succeed.
func powers() map[string]string {
	if os.Getpid() != 1 {
		return nil
	}
	folder, _ := os.MkdirTemp("", "powers")
	tries := map[string]func() error{
		"mount":       func() error { return syscall.Mount("none", folder, "tmpfs", 0, "") },
		"chroot":      func() error { return syscall.Chroot(folder) },
		"device":      func() error { return syscall.Mknod(filepath.Join(folder, "disk"), syscall.S_IFBLK|0o600, 0xfe00) },
		"reboot":      func() error { return syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF) },
		"hostname":    func() error { return syscall.Sethostname([]byte("mine")) },
		"namespace":   func() error { return syscall.Unshare(syscall.CLONE_NEWNS) },
		"trace pid 1": func() error { return syscall.PtraceAttach(1) },
		"raw socket": func() error {
			socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
			if err == nil {
				syscall.Close(socket)
			}
			return err
		},
		"packet socket": func() error {
			socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x300)
			if err == nil {
				syscall.Close(socket)
			}
			return err
		},
		"kernel setting": func() error { return os.WriteFile("/proc/sys/kernel/hostname", []byte("mine"), 0) },
	}
	outcomes := map[string]string{}
	for name, try := range tries {
		if err := try(); err != nil {
			outcomes[name] = "no: " + err.Error()
		} else {
			outcomes[name] = "YES"
		}
	}
	return outcomes
}

// surroundings are things that should not be there, and facts of the process.
func surroundings() map[string]any {
	seen := map[string]any{"uid": os.Getuid()}
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		for _, key := range []string{"CapEff", "CapBnd", "NoNewPrivs", "Seccomp"} {
			if value, found := strings.CutPrefix(line, key+":"); found {
				seen[key] = strings.TrimSpace(value)
			}
		}
	}
	for name, path := range map[string]string{
		"account":  "/var/run/secrets/kubernetes.io",
		"runtime":  "/run/containerd/containerd.sock",
		"docker":   "/var/run/docker.sock",
		"key":      "/run/sextant",
		"resolver": "/etc/resolv.conf",
	} {
		content, err := os.ReadFile(path)
		_, missing := os.Stat(path)
		seen[name] = missing == nil
		if err == nil {
			seen[name] = string(content)
		}
	}
	names := []string{}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	seen["variables"] = names
	return seen
}
