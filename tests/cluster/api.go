package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// api is a client of the API server: as little as the test bed needs.
type api struct {
	http *http.Client
	base string
}

// statusError is an answer that is not a success.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.code, e.text) }

// isNotFound tells whether the API said that there is no such object.
func isNotFound(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == http.StatusNotFound
}

// newAPI returns a client with the administrator's rights.
func newAPI(cfg Config) (*api, error) {
	cert, err := tls.LoadX509KeyPair(cfg.pki("admin.crt"), cfg.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(cfg.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &api{
		base: fmt.Sprintf("https://%s:%d", hostIP, apiPort),
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool},
		}},
	}, nil
}

// get reads an object into v, which may be nil.
func (a *api) get(path string, v any) error { return a.do(http.MethodGet, path, "", nil, v) }

// mergePatch changes the given fields of an object.
func (a *api) mergePatch(path string, patch any) error {
	return a.do(http.MethodPatch, path, "application/merge-patch+json", patch, nil)
}

// delete deletes an object; that it does not exist is fine.
func (a *api) delete(path string) error {
	err := a.do(http.MethodDelete, path, "", nil, nil)
	if isNotFound(err) {
		return nil
	}
	return err
}

// remove deletes an object together with its finalizers.
func (a *api) remove(path string) error {
	if err := a.delete(path); err != nil {
		return err
	}
	return poll(10*time.Second, 100*time.Millisecond, func() error {
		err := a.get(path, nil)
		if isNotFound(err) {
			return nil
		}
		if err == nil {
			err = a.mergePatch(path, map[string]any{"metadata": map[string]any{"finalizers": nil}})
		}
		if err == nil || isNotFound(err) {
			err = fmt.Errorf("%s is still there", path)
		}
		return err
	})
}

func (a *api) do(method, path, contentType string, body, v any) error {
	var reader io.Reader
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(content)
	}
	request, err := http.NewRequest(method, a.base+path, reader)
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := a.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return &statusError{response.StatusCode, strings.TrimSpace(string(content))}
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(content, v)
}

// kubectl runs kubectl with text on its standard input and returns what it prints.
func kubectl(cfg Config, stdin string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(cfg.bin("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cfg.kubeconfig())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// apply makes the cluster hold the objects of a manifest.
func apply(cfg Config, manifest string) error {
	_, err := kubectl(cfg, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}
