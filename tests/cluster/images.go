package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// An archive that was loaded is kept as images/HASH.tar, and the names of its
// images as images/HASH.tags. A node notes the archives that it has imported as
// empty files in a folder next to containerd's own, so that both are lost together.

// importedDir is that folder.
func (n Node) importedDir() string {
	return filepath.Join(n.rootDisk().point, "containerd", "testbed-imported")
}

// cmdLoadImage keeps archives for all nodes to come and imports them on those that are on.
func cmdLoadImage(cfg Config, args []string) error {
	files, err := parseArgs(flag.NewFlagSet("load-image", flag.ContinueOnError), args, 1, -1)
	if err != nil {
		return err
	}
	if len(cfg.nodes()) == 0 {
		return errors.New("no cluster: run `testbed up` first")
	}
	unlock, err := lock("images")
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range files {
		if err := keepImage(cfg, file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return parallel(cfg.nodes(), func(n Node) error {
		if !n.isOn() {
			return nil
		}
		return n.importImages()
	})
}

// cmdTagImage gives an image another name on the nodes that are on.
func cmdTagImage(cfg Config, args []string) error {
	names, err := parseArgs(flag.NewFlagSet("tag-image", flag.ContinueOnError), args, 2, 2)
	if err != nil {
		return err
	}
	return parallel(cfg.nodes(), func(n Node) error {
		if !n.isOn() {
			return nil
		}
		_, err := n.ctr("images", "tag", "--force", names[0], names[1])
		return err
	})
}

// keepImage copies an archive to the state folder. An older archive that gave
// one of its names to an image is dropped: the newer one has taken the name.
func keepImage(cfg Config, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	tags, err := imageTags(in)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return errors.New("names no image")
	}
	if err := os.MkdirAll(cfg.images(), 0o755); err != nil {
		return err
	}
	id := hex.EncodeToString(h.Sum(nil))[:32]
	if err := dropTags(cfg, id, tags); err != nil {
		return err
	}
	archive := filepath.Join(cfg.images(), id+".tar")
	if _, err := os.Stat(archive); err != nil {
		if err := copyFile(file, archive); err != nil {
			return err
		}
	}
	return writeFileAtomic(filepath.Join(cfg.images(), id+".tags"), []byte(strings.Join(tags, "\n")), 0o644)
}

// dropTags forgets archives other than keep that hold one of the tags.
func dropTags(cfg Config, keep string, tags []string) error {
	lists, err := filepath.Glob(filepath.Join(cfg.images(), "*.tags"))
	if err != nil {
		return err
	}
	for _, list := range lists {
		id := strings.TrimSuffix(filepath.Base(list), ".tags")
		content, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		if id == keep || !shareLine(string(content), tags) {
			continue
		}
		if err := errors.Join(os.Remove(list), os.Remove(filepath.Join(cfg.images(), id+".tar"))); err != nil {
			return err
		}
	}
	return nil
}

func shareLine(text string, lines []string) bool {
	for _, have := range strings.Split(text, "\n") {
		for _, want := range lines {
			if have == want {
				return true
			}
		}
	}
	return false
}

// importImages gives the node every archive that it does not hold yet, and
// makes that durable: a power cut may lose work, but not the images.
func (n Node) importImages() error {
	archives, err := filepath.Glob(filepath.Join(n.cfg.images(), "*.tar"))
	if err != nil {
		return err
	}
	imported := 0
	for _, archive := range archives {
		mark := filepath.Join(n.importedDir(), strings.TrimSuffix(filepath.Base(archive), ".tar"))
		if _, err := os.Stat(mark); err == nil {
			continue
		}
		if _, err := n.ctr("images", "import", "--all-platforms", archive); err != nil {
			return err
		}
		if err := writeFileAtomic(mark, nil, 0o644); err != nil {
			return err
		}
		imported++
	}
	if imported == 0 {
		return nil
	}
	root, err := os.Open(n.rootDisk().point)
	if err != nil {
		return err
	}
	defer root.Close()
	return unix.Syncfs(int(root.Fd()))
}

// checkImages fails if containerd has lost a part of an image that it names.
func (n Node) checkImages() error {
	out, err := n.ctr("images", "check")
	if err != nil {
		return err
	}
	return brokenImages(out)
}

// brokenImages reads the table that `ctr images check` prints.
func brokenImages(table string) error {
	for i, line := range strings.Split(table, "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) < 4 {
			continue
		}
		if fields[3] != "complete" || fields[len(fields)-1] != "true" {
			return fmt.Errorf("image %s is damaged: %s", fields[0], line)
		}
	}
	return nil
}
