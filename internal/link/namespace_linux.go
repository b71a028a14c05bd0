package link

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A namespace is a network namespace, which lives as long as file or a socket in it.
type namespace struct{ file *os.File }

// onThread runs f on a thread that ends with f, so that f may change its namespaces.
func onThread(f func() error) error {
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread() // without UnlockOSThread: the runtime then ends the thread
		if unix.Gettid() == unix.Getpid() {
			// The runtime cannot end the main thread, and /proc/self would follow it
			// into the namespace. It is kept until f runs on another one.
			defer runtime.UnlockOSThread()
			inner := make(chan struct{})
			go func() { defer close(inner); run() }()
			<-inner
			return
		}
		done <- f()
	}
	go run()
	return <-done
}

func newNamespace() (n *namespace, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("link: new network namespace: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("link: new network namespace: %w", err)
		}
		n = &namespace{file}
		return nil
	})
	return n, err
}

// in runs f on a thread in the namespace.
func (n *namespace) in(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("link: enter network namespace: %w", err)
		}
		return f()
	})
}

// openTUN returns a TUN device of the namespace, which is up and has an address in the
// network that both sides share.
func (n *namespace) openTUN(address net.IP, mtu int) (device *os.File, err error) {
	err = n.in(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("link: open /dev/net/tun: %w", err)
		}
		if err := configureTUN(fd, address, mtu); err != nil {
			unix.Close(fd)
			return fmt.Errorf("link: TUN device: %w", err)
		}
		device = os.NewFile(uintptr(fd), "/dev/net/tun")
		return nil
	})
	return device, err
}

func configureTUN(fd int, address net.IP, mtu int) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	set := func(name string, fd int, number uint, value func(*unix.Ifreq)) {
		request, e := unix.NewIfreq("tun0")
		if err == nil && e == nil {
			value(request)
			e = unix.IoctlIfreq(fd, number, request)
		}
		// The root of a user namespace may not set the queue (dev_ioctl in net/core).
		if err == nil && !(number == unix.SIOCSIFTXQLEN && e == unix.EPERM) {
			err = os.NewSyscallError(name, e)
		}
	}
	flags := func(flags uint16) func(*unix.Ifreq) { return func(r *unix.Ifreq) { r.SetUint16(flags) } }
	number := func(n int) func(*unix.Ifreq) { return func(r *unix.Ifreq) { r.SetUint32(uint32(n)) } }
	ip := func(ip net.IP) func(*unix.Ifreq) { return func(r *unix.Ifreq) { _ = r.SetInet4Addr(ip.To4()) } }
	set("TUNSETIFF", fd, unix.TUNSETIFF, flags(unix.IFF_TUN|unix.IFF_NO_PI))
	set("SIOCSIFMTU", socket, unix.SIOCSIFMTU, number(mtu))
	// A busy machine may keep the relay from reading for a while. What does not fit into
	// the queue is lost beyond the loss that a test asks for.
	set("SIOCSIFTXQLEN", socket, unix.SIOCSIFTXQLEN, number(20_000))
	set("SIOCSIFADDR", socket, unix.SIOCSIFADDR, ip(address))
	set("SIOCSIFNETMASK", socket, unix.SIOCSIFNETMASK, ip(net.IPv4(255, 255, 255, 0)))
	set("SIOCSIFFLAGS", socket, unix.SIOCSIFFLAGS, flags(unix.IFF_UP|unix.IFF_RUNNING))
	return err
}
