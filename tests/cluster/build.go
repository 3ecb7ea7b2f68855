package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"
)

// Versions of what is built from modules. The go.mod files decide; these are
// written into the programs and into image names.
const (
	kubeVersion    = "v1.36.3"
	helmVersion    = "v3.22.0"
	coreDNSVersion = "1.15.0"
)

// Names of the images that every node holds from the start.
const (
	pauseImage   = "localhost/pause:1"
	coreDNSImage = "localhost/coredns:" + coreDNSVersion
	probeImage   = "localhost/probe:1"
)

// program is one binary of the cache.
type program struct {
	name    string
	dir     string   // its folder, below the test bed's sources
	pkg     string   // what to build there
	ldflags string   // beside -s -w
	links   []string // other names of the same file
	image   string   // the image to wrap it in, if any
}

// programs lists what `testbed build` builds.
var programs = []program{
	{name: "kube", dir: "kube", pkg: ".", ldflags: kubeVersionFlags(),
		links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}},
	{name: "helm", dir: "helm", pkg: "helm.sh/helm/v3/cmd/helm",
		ldflags: "-X helm.sh/helm/v3/internal/version.version=" + helmVersion},
	{name: "coredns", dir: "coredns", pkg: ".", image: coreDNSImage},
	{name: "pause", dir: "pause", pkg: ".", image: pauseImage},
	{name: "probe", dir: "probe", pkg: ".", image: probeImage},
}

// kubeVersionFlags makes the programs of Kubernetes report the version they
// have; charts test it.
func kubeVersionFlags() string {
	parts := strings.Split(strings.TrimPrefix(kubeVersion, "v"), ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for name, value := range map[string]string{
			"gitVersion": kubeVersion, "gitMajor": parts[0], "gitMinor": parts[1], "gitTreeState": "clean",
		} {
			flags = append(flags, fmt.Sprintf("-X %s.%s=%s", pkg, name, value))
		}
	}
	sort.Strings(flags)
	return strings.Join(flags, " ")
}

func cmdBuild(cfg Config, args []string) error {
	if err := noArgs("build", args); err != nil {
		return err
	}
	src, err := sourceDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Bin, 0o755); err != nil {
		return err
	}
	unlock, err := lock("build")
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range programs {
		if err := p.build(cfg, src); err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
	}
	return nil
}

// sourceDir finds the test bed's sources: in GAPLESS_TESTBED_SRC, or in
// tests/cluster of the working directory or of a folder above it.
func sourceDir() (string, error) {
	if dir := os.Getenv("GAPLESS_TESTBED_SRC"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "tests", "cluster")} {
			if _, err := os.Stat(filepath.Join(candidate, "kube", "go.mod")); err == nil {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no sources of the test bed here or above; run it in the repository or set GAPLESS_TESTBED_SRC")
		}
	}
}

// build makes the program unless the cache has one of the same sources, and
// points its names at it.
func (p program) build(cfg Config, src string) error {
	key, err := p.key(filepath.Join(src, p.dir))
	if err != nil {
		return err
	}
	file := fmt.Sprintf("%s-%s", p.name, key)
	if _, err := os.Stat(cfg.bin(file)); err != nil {
		start := time.Now()
		fmt.Printf("building %s (minutes when the compiler's cache is cold)\n", p.name)
		if err := p.compile(filepath.Join(src, p.dir), cfg.bin(file)); err != nil {
			return err
		}
		fmt.Printf("built %s in %.0f s\n", p.name, time.Since(start).Seconds())
	}
	for _, name := range append([]string{p.name}, p.links...) {
		if err := symlinkAtomic(file, cfg.bin(name)); err != nil {
			return err
		}
	}
	if p.image != "" {
		if err := p.buildImage(cfg, file); err != nil {
			return err
		}
	}
	return p.removeOld(cfg, file)
}

// key is a hash of all that decides what the program is.
func (p program) key(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n", p.pkg, p.ldflags, p.image, runtime.Version())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.Base(file), len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// compile runs the compiler. Nothing is resolved here: go.mod and go.sum must be complete.
func (p program) compile(dir, out string) error {
	tmp := out + ".tmp"
	cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w "+p.ldflags, "-o", tmp, p.pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, out)
}

func (p program) buildImage(cfg Config, file string) error {
	tar := file + ".tar"
	if _, err := os.Stat(cfg.bin(tar)); err != nil {
		if err := writeImage(cfg.bin(tar), p.image, cfg.bin(p.name)); err != nil {
			return err
		}
	}
	return symlinkAtomic(tar, cfg.bin(p.name+".tar"))
}

// removeOld deletes builds of earlier sources. Programs that run keep their file.
func (p program) removeOld(cfg Config, keep string) error {
	files, err := os.ReadDir(cfg.Bin)
	if err != nil {
		return err
	}
	for _, file := range files {
		name := file.Name()
		if p.isBuild(name) && !strings.HasPrefix(name, keep) {
			if err := os.Remove(cfg.bin(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isBuild tells whether a file of the cache is a build of this program, or its image.
func (p program) isBuild(file string) bool {
	key, ok := strings.CutPrefix(strings.TrimSuffix(file, ".tar"), p.name+"-")
	_, err := hex.DecodeString(key)
	return ok && len(key) == 16 && err == nil
}

// checkBuilt fails unless every program is in the cache.
func checkBuilt(cfg Config) error {
	for _, p := range programs {
		if _, err := os.Stat(cfg.bin(p.name)); err != nil {
			return fmt.Errorf("%s is not built: run `testbed build` first", p.name)
		}
	}
	return nil
}

// symlinkAtomic makes link point to target, without a moment in which it does not exist.
func symlinkAtomic(target, link string) error {
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	tmp := link + ".tmp"
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

// writeFileAtomic writes a file so that it is either whole or not there.
func writeFileAtomic(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// copyFile copies a file into place, atomically.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := to + ".tmp"
	out, err := os.Create(tmp)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// output runs a program and returns what it printed; on failure the error
// carries what it said.
func output(name string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err,
			strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// sh runs a program for its effect alone.
func sh(name string, args ...string) error {
	_, err := output(name, args...)
	return err
}
