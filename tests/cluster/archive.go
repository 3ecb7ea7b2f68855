package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// epoch is the date of every file in an archive, so that equal programs make equal archives.
var epoch = time.Unix(0, 0)

// writeImage writes a docker-archive with one layer that holds one static
// program, which is its entry point.
func writeImage(out, tag, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	name := path.Base(strings.SplitN(tag, ":", 2)[0])
	archive, err := imageArchive(tag, name, content)
	if err != nil {
		return err
	}
	return writeFileAtomic(out, archive, 0o644)
}

// imageArchive returns the bytes of the docker-archive: a layer, the image's
// configuration and a manifest.
func imageArchive(tag, name string, program []byte) ([]byte, error) {
	layer, err := tarOf(tarFile{name, program, 0o755})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": epoch.UTC(),
		"config": map[string]any{"Entrypoint": []string{"/" + name}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(digest[:])}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{tag}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	return tarOf(tarFile{"config.json", config, 0o644}, tarFile{"layer.tar", layer, 0o644},
		tarFile{"manifest.json", manifest, 0o644})
}

type tarFile struct {
	name    string
	content []byte
	mode    int64
}

func tarOf(files ...tarFile) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: epoch, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// imageTags returns the names that an archive gives its images: from
// manifest.json of a docker-archive, or from the index.json of an OCI layout.
func imageTags(r io.Reader) ([]string, error) {
	var tags []string
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return tags, nil
		}
		if err != nil {
			return nil, err
		}
		switch path.Clean(h.Name) {
		case "manifest.json":
			var list []struct{ RepoTags []string }
			if err := json.NewDecoder(t).Decode(&list); err != nil {
				return nil, err
			}
			for _, image := range list {
				tags = append(tags, image.RepoTags...)
			}
		case "index.json":
			var index struct {
				Manifests []struct{ Annotations map[string]string }
			}
			if err := json.NewDecoder(t).Decode(&index); err != nil {
				return nil, err
			}
			for _, m := range index.Manifests {
				for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
					if name := m.Annotations[key]; name != "" {
						tags = append(tags, name)
						break
					}
				}
			}
		}
	}
}
