package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAnImageArchiveNamesItsImage(t *testing.T) {
	archive, err := imageArchive("localhost/x:1", "x", []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := imageArchive("localhost/x:1", "x", []byte("program"))
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("the same program makes another archive: %v", err)
	}
	tags, err := imageTags(bytes.NewReader(archive))
	if err != nil || !slices.Equal(tags, []string{"localhost/x:1"}) {
		t.Errorf("%q, %v", tags, err)
	}
}

func TestAnOCIArchiveNamesItsImage(t *testing.T) {
	archive, err := tarOf(tarFile{"index.json", []byte(
		`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"localhost/y:2"}}]}`), 0o644})
	if err != nil {
		t.Fatal(err)
	}
	tags, err := imageTags(bytes.NewReader(archive))
	if err != nil || !slices.Equal(tags, []string{"localhost/y:2"}) {
		t.Errorf("%q, %v", tags, err)
	}
}

func TestANewArchiveReplacesTheOneOfTheSameName(t *testing.T) {
	cfg := Config{State: t.TempDir()}
	keep := func(tag, content string) {
		t.Helper()
		archive, err := imageArchive(tag, "x", []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := keepImage(cfg, file); err != nil {
			t.Fatal(err)
		}
	}
	keep("localhost/x:1", "old")
	keep("localhost/other:1", "other")
	keep("localhost/x:1", "new")
	keep("localhost/x:1", "new")
	kept, err := filepath.Glob(filepath.Join(cfg.images(), "*.tar"))
	if err != nil || len(kept) != 2 {
		t.Errorf("%q, %v", kept, err)
	}
}

func TestBrokenImages(t *testing.T) {
	const head = "REF TYPE DIGEST STATUS SIZE UNPACKED\n"
	const good = "localhost/x:1 application/vnd.docker.distribution.manifest.v2+json sha256:d4 complete (2/2) 75.2 MiB/75.2 MiB true \n"
	for table, ok := range map[string]bool{
		head:        true,
		head + good: true,
		head + good + "localhost/y:1 application/z sha256:d4 incomplete (1/2) 1.0 MiB/75.2 MiB true\n":  false,
		head + good + "localhost/y:1 application/z sha256:d4 complete (2/2) 75.2 MiB/75.2 MiB false \n": false,
	} {
		if err := brokenImages(table); (err == nil) != ok {
			t.Errorf("%v for\n%s", err, table)
		}
	}
}

func TestParseBundle(t *testing.T) {
	c, err := parseBundle([]byte(`{"annotations":{
		"io.kubernetes.cri.container-name":"c","io.kubernetes.cri.sandbox-name":"p","io.kubernetes.cri.sandbox-namespace":"ns"},
		"linux":{"cgroupsPath":"/gapless/n1/kubepods/podx/y"}}`))
	if err != nil || c.name != "c" || c.pod != "p" || c.namespace != "ns" {
		t.Errorf("%+v, %v", c, err)
	}
	if c.freezer() != "/sys/fs/cgroup/freezer/gapless/n1/kubepods/podx/y" {
		t.Error(c.freezer())
	}
}

func TestOnlyBuildsCountAsBuilds(t *testing.T) {
	p := program{name: "kube"}
	for file, want := range map[string]bool{
		"kube-2fc31556570b0ccf": true, "kube-2fc31556570b0ccf.tar": true,
		"kube": false, "kube-controller-manager": false, "kube-apiserver-longxx": false, "helm-2fc31556570b0ccf": false,
	} {
		if p.isBuild(file) != want {
			t.Errorf("%s", file)
		}
	}
}

func TestAChangedSourceHasAnotherKey(t *testing.T) {
	dir := t.TempDir()
	p := program{name: "x", pkg: "."}
	write := func(text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		key, err := p.key(dir)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	one, two := write("one"), write("two")
	if one == two || one != write("one") {
		t.Errorf("%s, %s", one, two)
	}
}
