// Command probe is a pod's program for the test bed's self-test: it does over
// the network and on its volume what it is asked to, and says how that went.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// received counts the datagrams that came in on port 9000.
var received atomic.Int64

func main() {
	if len(os.Args) > 1 && os.Args[1] == "idle" {
		time.Sleep(1 << 62)
	}
	go countDatagrams()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "probe") })
	http.HandleFunc("/fetch", answer(fetch))
	http.HandleFunc("/send", answer(send))
	http.HandleFunc("/write", answer(write))
	http.HandleFunc("/lookup", answer(lookup))
	http.HandleFunc("/received", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, received.Load()) })
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// answer makes a handler of a function: its error is a status of 502.
func answer(f func(arg string) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := f(r.URL.Query().Get("arg"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, text)
	}
}

// client keeps its connections, so that a cut meets those as well as new ones.
var client = &http.Client{
	Timeout:   time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
}

// fetch reads a page; any answer of the other side is a success.
func fetch(url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Status, err
}

// send sends one datagram and cannot know whether it arrives.
func send(address string) (string, error) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("x"))
	return "sent", err
}

// write appends a megabyte to a file, durably.
func write(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return "written", f.Sync()
}

// lookup asks the pod's DNS.
func lookup(name string) (string, error) {
	addresses, err := net.LookupHost(name)
	return fmt.Sprint(addresses), err
}

func countDatagrams() {
	conn, err := net.ListenPacket("udp", ":9000")
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 64)
	for {
		if _, _, err := conn.ReadFrom(buffer); err != nil {
			log.Fatal(err)
		}
		received.Add(1)
	}
}
