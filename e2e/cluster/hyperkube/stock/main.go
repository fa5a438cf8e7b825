// Stock is the one program of the image that every cluster has without a registry: the sandbox
// that holds a pod's namespaces ("pause"), a server that says which pod answers ("serve"), a
// client that asks once ("get") and clients that ask without mercy ("load"), so that a Service can
// be proven before anything of ours is built, and loaded from where its users are.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

var commands = map[string]func(arguments []string) error{
	"pause": pause,
	"serve": serve,
	"get":   get,
	"load":  load,
}

func main() {
	err := fmt.Errorf("usage: stock pause | serve [FLAGS] ADDRESS | get [FLAGS] URL | load [FLAGS] URL; -help for the flags")
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		err = commands[os.Args[1]](os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stock:", err)
		os.Exit(1)
	}
}

// only parses flags and returns the one argument that follows them.
func only(flags *flag.FlagSet, arguments []string) (string, error) {
	_ = flags.Parse(arguments) // it exits by itself
	if flags.NArg() != 1 {
		return "", fmt.Errorf("%s takes flags and then one argument, not %q", flags.Name(), flags.Args())
	}
	return flags.Arg(0), nil
}

func told() <-chan os.Signal {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	return ends
}

// pause waits, and as the first process of a pod buries what others leave behind.
func pause([]string) error {
	ends := told()
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-ends:
			return nil
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	linger := flags.Duration("linger", 0, "how long to go on serving when told to end, so that every router has heard of it")
	address, err := only(flags, arguments)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	var leaving atomic.Bool
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintf(w, "%s answers %s\n", name, r.URL.Path)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-told():
	}
	if *linger == 0 {
		return nil // abruptly, as servers do that were not written for a cluster
	}
	// The last answer of each connection says so. SetKeepAlivesEnabled would also close at once what
	// a client may be about to use.
	leaving.Store(true)
	time.Sleep(*linger)
	return server.Shutdown(context.Background())
}
