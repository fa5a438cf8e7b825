package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	answerWithin = 30 * time.Second
	failuresTold = 10
	wordsTold    = 50
)

// load sends requests at a steady rate, whether or not earlier ones have been answered, and counts
// without mercy: anything but a 200 with the expected text is a failure, and nothing is retried.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	rate := flags.Float64("rate", 50, "requests per second")
	length := flags.Duration("for", 0, "how long; 0: until SIGTERM, SIGINT or POST /end")
	fresh := flags.Float64("fresh", 0.5, "which part of the requests opens a connection of its own")
	room := flags.Int("in-flight", 256, "how many requests may wait for their answers; those due beyond are counted as unsent")
	timeout := flags.Duration("timeout", answerWithin, "how long an answer may take")
	expect := flags.String("expect", "", "text that every right answer has")
	word := flags.String("word", "", "expression for what tells answers apart: its first group, or all of it, is counted")
	await := flags.Duration("await", 0, "ask, uncounted, until the first right answer; give up after so long")
	listen := flags.String("listen", "", "where to answer GET /, with the figures so far, GET /begun, and POST /end")
	complete := askedWith(flags)
	url, err := only(flags, arguments)
	if err != nil {
		return err
	}
	if *rate <= 0 || *room < 1 || *fresh < 0 || *fresh > 1 {
		return fmt.Errorf("load takes a -rate above 0, -in-flight of 1 or more, and -fresh from 0 to 1")
	}
	asked, err := complete(url)
	if err != nil {
		return err
	}
	told := told()
	clients := &clients{
		question: asked,
		expect:   *expect,
		fresh:    *fresh,
		kept:     client(*timeout, &http.Transport{MaxIdleConns: *room, MaxIdleConnsPerHost: *room}),
		anew:     client(*timeout, &http.Transport{DisableKeepAlives: true}),
		room:     make(chan struct{}, *room),
		ends:     make(chan struct{}),
		words:    map[string]int{},
	}
	if *word != "" {
		if clients.word, err = regexp.Compile(*word); err != nil {
			return fmt.Errorf("-word: %w", err)
		}
	}
	go func() {
		<-told
		clients.end()
	}()
	door := &http.Server{Addr: *listen, Handler: clients.doors()}
	if *listen != "" {
		go func() {
			if err := door.ListenAndServe(); err != http.ErrServerClosed {
				fmt.Fprintln(os.Stderr, "stock:", err)
				os.Exit(1)
			}
		}()
	}
	if err := clients.await(*await); err != nil {
		return err
	}
	if *length > 0 {
		time.AfterFunc(*length, clients.end)
	}
	clients.run(time.Duration(float64(time.Second) / *rate))
	line, err := json.Marshal(clients.report())
	fmt.Println(string(line))
	if err != nil {
		return err
	}
	// Who has just asked it to end shall hear that it was heard.
	soon, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return door.Shutdown(soon)
}

func client(timeout time.Duration, transport *http.Transport) *http.Client {
	transport.DisableCompression = true
	return &http.Client{
		Timeout:   timeout,
		Transport: transport,
		// A redirect is an answer like another, and not the expected one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type clients struct {
	question   question
	expect     string
	word       *regexp.Regexp
	fresh      float64
	kept, anew *http.Client
	room       chan struct{}
	ends       chan struct{}
	ending     sync.Once

	mutex                  sync.Mutex
	began, ended           time.Time
	sent, unsent, inFlight int
	tookMs                 []float64 // of those that were answered well
	words                  map[string]int
	failed                 int
	failures               []failure
}

type failure struct {
	At     string  `json:"at"`
	Second float64 `json:"second"`
	Reason string  `json:"reason"`
}

// report is what is printed at the end, and the answer to GET /.
type report struct {
	Seconds  float64        `json:"seconds"`
	Sent     int            `json:"sent"`
	Answered int            `json:"answered"`
	Failed   int            `json:"failed"`
	Unsent   int            `json:"unsent"`
	InFlight int            `json:"inFlight"`
	P50Ms    float64        `json:"p50Ms"`
	P99Ms    float64        `json:"p99Ms"`
	MaxMs    float64        `json:"maxMs"`
	Words    map[string]int `json:"words"`
	Failures []failure      `json:"failures"`
}

func (c *clients) end() { c.ending.Do(func() { close(c.ends) }) }

func (c *clients) over() bool {
	select {
	case <-c.ends:
		return true
	default:
		return false
	}
}

// await asks until an answer is right, so that what is counted begins with a server that serves.
func (c *clients) await(length time.Duration) error {
	deadline := time.Now().Add(length)
	for length > 0 && !c.over() {
		_, err := c.ask(c.anew)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no right answer within %s; the last one: %w", length, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func (c *clients) run(interval time.Duration) {
	c.mutex.Lock()
	c.began = time.Now()
	c.mutex.Unlock()
	progress := time.NewTicker(time.Second)
	defer progress.Stop()
	var asking sync.WaitGroup
	due := time.NewTimer(0)
	for number := 0; ; {
		select {
		case <-c.ends:
			asking.Wait()
			c.mutex.Lock()
			c.ended = time.Now()
			c.mutex.Unlock()
			return
		case <-progress.C:
			c.tell()
		case <-due.C:
			c.send(number, &asking)
			number++
			due.Reset(time.Until(c.began.Add(time.Duration(number) * interval)))
		}
	}
}

func (c *clients) send(number int, asking *sync.WaitGroup) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	select {
	case c.room <- struct{}{}:
	default:
		c.unsent++
		return
	}
	c.sent++
	c.inFlight++
	client, kind := c.kept, "kept"
	if math.Floor(float64(number+1)*c.fresh) > math.Floor(float64(number)*c.fresh) {
		client, kind = c.anew, "new"
	}
	asking.Add(1)
	go func() {
		defer asking.Done()
		begin := time.Now()
		word, err := c.ask(client)
		c.note(begin, word, err, kind)
		<-c.room
	}()
}

// ask sends the question once and returns what tells the answer apart.
func (c *clients) ask(client *http.Client) (string, error) {
	request, err := c.question.request()
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("%s, and its body broke off: %w", answer.Status, err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %.200s", answer.Status, body)
	}
	if !strings.Contains(string(body), c.expect) {
		return "", fmt.Errorf("%s without %q: %.200s", answer.Status, c.expect, body)
	}
	return c.wordIn(string(body)), nil
}

func (c *clients) wordIn(body string) string {
	if c.word == nil {
		return "right"
	}
	found := c.word.FindStringSubmatch(body)
	if len(found) == 0 {
		return "(none)"
	}
	return found[min(1, len(found)-1)]
}

func (c *clients) note(begin time.Time, word string, err error, kind string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.inFlight--
	if err == nil {
		c.tookMs = append(c.tookMs, float64(time.Since(begin).Microseconds())/1000)
		if _, known := c.words[word]; !known && len(c.words) >= wordsTold {
			word = "(others)"
		}
		c.words[word]++
		return
	}
	c.failed++
	if len(c.failures) < failuresTold {
		seconds := math.Round(begin.Sub(c.began).Seconds()*1000) / 1000
		reason := fmt.Sprintf("%v (%s connection)", err, kind)
		c.failures = append(c.failures, failure{begin.UTC().Format(time.RFC3339Nano), seconds, reason})
	}
}

func (c *clients) report() report {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	took := slices.Sorted(slices.Values(c.tookMs))
	words := map[string]int{}
	for word, times := range c.words {
		words[word] = times
	}
	return report{
		Seconds:  math.Round(c.seconds()*1000) / 1000,
		Sent:     c.sent,
		Answered: len(c.tookMs),
		Failed:   c.failed,
		Unsent:   c.unsent,
		InFlight: c.inFlight,
		P50Ms:    percentile(took, 0.50),
		P99Ms:    percentile(took, 0.99),
		MaxMs:    percentile(took, 1),
		Words:    words,
		Failures: append([]failure{}, c.failures...),
	}
}

func (c *clients) seconds() float64 {
	switch {
	case c.began.IsZero():
		return 0
	case c.ended.IsZero():
		return time.Since(c.began).Seconds()
	}
	return c.ended.Sub(c.began).Seconds()
}

func percentile(sorted []float64, part float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
}

func (c *clients) tell() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	fmt.Printf("%4.0f s  %d sent, %d answered, %d failed, %d unsent, %d in flight\n",
		c.seconds(), c.sent, len(c.tookMs), c.failed, c.unsent, c.inFlight)
}

func (c *clients) doors() http.Handler {
	doors := http.NewServeMux()
	doors.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c.report())
	})
	doors.HandleFunc("GET /begun", func(w http.ResponseWriter, _ *http.Request) {
		if c.report().Answered == 0 {
			http.Error(w, "no right answer yet", http.StatusServiceUnavailable)
		}
	})
	doors.HandleFunc("POST /end", func(http.ResponseWriter, *http.Request) { c.end() })
	return doors
}
