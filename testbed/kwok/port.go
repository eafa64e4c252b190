package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
)

// port is the node's data port as one run's pod knows it.
type port struct {
	client *http.Client
	url    string
	key    string
	job    string
	tally  *tally
}

// refused is the node's last word.
type refused string

func (r refused) Error() string { return "the node refuses: " + string(r) }

// dataPort reads the environment of `receive`, and the run's key from its Secret, for which a kubelet waits, too.
func (s *stage) dataPort(ctx context.Context, pod *core.Pod) (*port, error) {
	values := map[string]string{}
	for _, variable := range pod.Spec.InitContainers[0].Env {
		values[variable.Name] = variable.Value
		if from := variable.ValueFrom; from != nil && from.SecretKeyRef != nil {
			value, err := s.secret(ctx, from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			if err != nil {
				return nil, err
			}
			values[variable.Name] = value
		}
	}
	run, err := strconv.ParseUint(values["SEXTANT_RUN"], 10, 22)
	if err != nil {
		return nil, fmt.Errorf("SEXTANT_RUN: %w", err)
	}
	transport := &http.Transport{
		// One request a connection, as the containers do.
		DisableKeepAlives: true,
		DialContext: (&net.Dialer{
			Timeout:   10 * time.Second,
			LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(64+run>>16), byte(run>>8), byte(run))},
		}).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:            tls.VersionTLS13,
			ServerName:            "sextant-data-port",
			InsecureSkipVerify:    true, // the pin says whom to trust
			VerifyPeerCertificate: pinned(values["SEXTANT_DATA_PIN"]),
		},
	}
	return &port{
		client: &http.Client{Transport: transport, Timeout: 2 * time.Minute},
		url:    fmt.Sprintf("https://%s/runs/%d/", values["SEXTANT_DATA_ADDRESS"], run),
		key:    values["SEXTANT_KEY"],
		job:    values["SEXTANT_JOB"],
		tally:  s.tally,
	}, nil
}

func (s *stage) secret(ctx context.Context, name, key string) (string, error) {
	for {
		secret, err := s.client.CoreV1().Secrets(s.namespace).Get(ctx, name, v1.GetOptions{})
		if err == nil {
			return string(secret.Data[key]), nil
		}
		if !apierrors.IsNotFound(err) || ctx.Err() != nil {
			return "", err
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// pinned accepts the one public key with this hash.
func pinned(pin string) func([][]byte, [][]*x509.Certificate) error {
	return func(certificates [][]byte, _ [][]*x509.Certificate) error {
		certificate, err := x509.ParseCertificate(certificates[0])
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo); hex.EncodeToString(sum[:]) != pin {
			return errors.New("that is not the node's key")
		}
		return nil
	}
}

// until asks until the node gives it or refuses it for good, with pauses that get longer.
func (p *port) until(ctx context.Context, method, item string, body []byte) ([]byte, error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		answer, err := p.once(ctx, method, item, body)
		if err == nil || errors.As(err, new(refused)) || ctx.Err() != nil {
			return answer, err
		}
		p.tally.again()
		pause(ctx, wait)
	}
}

// once makes one request.
func (p *port) once(ctx context.Context, method, item string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.url+item, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+p.key)
	request.Header.Set("X-Sextant-Job", p.job)
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusConflict:
		return nil, refused(answer)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the data port answers %s", response.Status)
	}
	return answer, nil
}
