package main

import "testing"

func TestParseMounts(t *testing.T) {
	const text = `27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
84 79 7:1 / /state/with\040blank rw,relatime shared:42 master:7 - ext4 /dev/loop1 rw,shutdown
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
`
	list, err := parseMounts(text)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	want := mountEntry{device: "7:1", root: "/", point: "/state/with blank", kind: "ext4", source: "/dev/loop1"}
	if list[1] != want {
		t.Errorf("%+v", list[1])
	}
	if _, err := parseMounts("nonsense"); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false}, {"/a/b", "/a/", true},
	} {
		if within(c.path, c.dir) != c.want {
			t.Errorf("%+v", c)
		}
	}
}
