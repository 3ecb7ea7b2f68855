package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// authority signs the cluster's certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// identity is what one certificate says of its holder.
type identity struct {
	name  string // of the files
	cn    string
	group string
	dns   []string
	ips   []string
}

// identities lists every certificate of a cluster with the given nodes.
func identities(nodes []Node) []identity {
	list := []identity{
		{name: "apiserver", cn: "kube-apiserver", ips: []string{"127.0.0.1", hostIP, kubernetesIP},
			dns: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		{name: "apiserver-kubelet", cn: "apiserver-kubelet", group: "system:masters"},
		{name: "admin", cn: "admin", group: "system:masters"},
		{name: "kube-controller-manager", cn: "system:kube-controller-manager"},
		{name: "kube-scheduler", cn: "system:kube-scheduler"},
		{name: "kube-proxy", cn: "system:kube-proxy"},
	}
	for _, n := range nodes {
		list = append(list, identity{name: n.Name(), cn: "system:node:" + n.Name(), group: "system:nodes",
			dns: []string{n.Name()}, ips: []string{n.IP()}})
	}
	return list
}

// writePKI makes the certificates, keys and kubeconfigs of the cluster. Nodes
// that may be created later get theirs at once. The authority's key stays on
// disk only because the controller-manager signs certificate requests with it.
func writePKI(cfg Config) error {
	if err := os.MkdirAll(cfg.path("pki"), 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(cfg)
	if err != nil {
		return err
	}
	var nodes []Node
	for i := 1; i <= maxNodes; i++ {
		nodes = append(nodes, cfg.node(i))
	}
	for _, id := range identities(nodes) {
		cert, key, err := ca.issue(id)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", id.name, err)
		}
		if err := writePair(cfg, id.name, cert, key); err != nil {
			return err
		}
		config := renderKubeconfig(ca.pem(), cert, key)
		if err := os.WriteFile(cfg.component(id.name), config, 0o600); err != nil {
			return err
		}
		if id.name == "admin" {
			if err := os.WriteFile(cfg.kubeconfig(), config, 0o600); err != nil {
				return err
			}
		}
	}
	return writeServiceAccountKey(cfg)
}

func newAuthority(cfg Config) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gapless-testbed"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &authority{cert: cert, key: key}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ca, writePair(cfg, "ca", ca.pem(), keyPEM)
}

func (a *authority) pem() []byte { return encodePEM("CERTIFICATE", a.cert.Raw) }

// issue makes a key and a certificate for client and server use, both in PEM.
func (a *authority) issue(id identity) (cert, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: id.cn}, DNSNames: id.dns,
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if id.group != "" {
		template.Subject.Organization = []string{id.group}
	}
	for _, ip := range id.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, signer.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(signer)
	return encodePEM("CERTIFICATE", der), key, err
}

// writeServiceAccountKey makes the key pair that signs the tokens of pods.
func writeServiceAccountKey(cfg Config) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(cfg.pki("sa.key"), private, 0o600); err != nil {
		return err
	}
	return os.WriteFile(cfg.pki("sa.pub"), encodePEM("PUBLIC KEY", public), 0o644)
}

func writePair(cfg Config, name string, cert, key []byte) error {
	if err := os.WriteFile(cfg.pki(name+".crt"), cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(cfg.pki(name+".key"), key, 0o600)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encodePEM("PRIVATE KEY", der), nil
}

// renderKubeconfig returns a kubeconfig that needs no other file.
func renderKubeconfig(ca, cert, key []byte) []byte {
	enc := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: gapless
  cluster:
    server: https://%s:%d
    certificate-authority-data: %s
users:
- name: gapless
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: gapless
  context: {cluster: gapless, user: gapless}
current-context: gapless
`, hostIP, apiPort, enc(ca), enc(cert), enc(key))
}
