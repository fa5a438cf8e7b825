package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// question is one request, and what makes its answer right.
type question struct {
	url, method, contentType string
	body                     []byte
}

// askedWith adds the flags of a question; call what it returns after the flags have been parsed.
func askedWith(flags *flag.FlagSet) func(url string) (question, error) {
	method := flags.String("method", "", "GET without a body, else POST, unless said here")
	contentType := flags.String("content-type", "application/json", "of the body")
	body := flags.String("body", "", "what to send: the text itself, @FILE or - for standard input")
	return func(url string) (question, error) {
		sent, err := content(*body)
		asked := question{url, *method, *contentType, sent}
		if asked.method == "" {
			asked.method = http.MethodGet
			if *body != "" {
				asked.method = http.MethodPost
			}
		}
		return asked, err
	}
}

func content(named string) ([]byte, error) {
	if named == "-" {
		return io.ReadAll(os.Stdin)
	}
	if file, found := strings.CutPrefix(named, "@"); found {
		return os.ReadFile(file)
	}
	return []byte(named), nil
}

func (q question) request() (*http.Request, error) {
	// A body that cannot be read twice: net/http then never sends a request a second time on its
	// own, which it otherwise does when a kept connection breaks.
	request, err := http.NewRequest(q.method, q.url, struct{ io.Reader }{bytes.NewReader(q.body)})
	if err != nil {
		return nil, err
	}
	request.ContentLength = int64(len(q.body))
	if len(q.body) > 0 {
		request.Header.Set("Content-Type", q.contentType)
	}
	return request, nil
}

// get asks once and prints the answer's body; another status than 2xx is an error.
func get(arguments []string) error {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	timeout := flags.Duration("timeout", answerWithin, "how long an answer may take")
	complete := askedWith(flags)
	url, err := only(flags, arguments)
	if err != nil {
		return err
	}
	asked, err := complete(url)
	if err != nil {
		return err
	}
	request, err := asked.request()
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Timeout: *timeout}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}
