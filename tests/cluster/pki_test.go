package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

func TestCertificatesVerify(t *testing.T) {
	cfg := Config{State: t.TempDir()}
	if err := writePKI(cfg); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(cfg.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	for name, host := range map[string]string{"apiserver": hostIP, "n1": cfg.node(1).IP(), "n9": "n9"} {
		pair, err := tls.LoadX509KeyPair(cfg.pki(name+".crt"), cfg.pki(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cfg.pki("n1.crt"), cfg.pki("n1.key"))
	if err != nil || pair.Leaf.Subject.CommonName != "system:node:n1" || pair.Leaf.Subject.Organization[0] != "system:nodes" {
		t.Errorf("%v, %v", pair.Leaf.Subject, err)
	}
	info, err := os.Stat(cfg.kubeconfig())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info.Mode(), err)
	}
}
