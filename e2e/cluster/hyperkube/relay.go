package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

// relay lets a listener that was opened in another network namespace, and inherited, reach an
// address in this one. So the API server of an isolated cluster has an address outside of it.
func relay() int {
	flags := flag.NewFlagSet("relay", flag.ExitOnError)
	descriptor := flags.Int("fd", 3, "descriptor of the inherited listener")
	target := flags.String("to", "", "address to connect to")
	_ = flags.Parse(os.Args[1:])
	listener, err := net.FileListener(os.NewFile(uintptr(*descriptor), "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return 1
	}
	for {
		near, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			return 1
		}
		go join(near.(*net.TCPConn), *target)
	}
}

func join(near *net.TCPConn, target string) {
	defer near.Close()
	far, err := net.Dial("tcp", target)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return
	}
	defer far.Close()
	ended := make(chan struct{})
	go func() {
		pump(far.(*net.TCPConn), near)
		close(ended)
	}()
	pump(near, far.(*net.TCPConn))
	<-ended
}

func pump(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
	_ = from.CloseRead()
}
