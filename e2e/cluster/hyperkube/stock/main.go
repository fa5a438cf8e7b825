// Stock is the one program of the image that every cluster has without a registry: the sandbox
// that holds a pod's namespaces ("pause"), a server that says which pod answers ("serve"), and
// a client ("get URL"), so that a Service can be proven before anything of ours is built.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	err := fmt.Errorf("usage: stock pause | serve ADDRESS | get URL")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "pause":
		err = pause()
	case len(os.Args) == 3 && os.Args[1] == "serve":
		err = serve(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "get":
		err = get(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stock:", err)
		os.Exit(1)
	}
}

// pause waits, and as the first process of a pod buries what others leave behind.
func pause() error {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
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

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	go func() {
		ends := make(chan os.Signal, 1)
		signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
		<-ends
		os.Exit(0)
	}()
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s answers %s\n", name, r.URL.Path)
	}))
}

func get(url string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
