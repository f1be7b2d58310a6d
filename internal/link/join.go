package link

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

const (
	// joinTimeout bounds a join, agreement between the regions included.
	joinTimeout = 30 * time.Second

	maxJoinRequest = 64 << 10
	maxJoinAnswer  = 1 << 20
)

// joinRequest is what a region asks with. Its root comes with proof: the TLS
// connection was made with a leaf that the root signed.
type joinRequest struct {
	Region antipode.Region `json:"region"`
	Root   string          `json:"root"`
	Secret []byte          `json:"secret"`
}

// joinAnswer holds the roots of all regions, or why there are none.
type joinAnswer struct {
	Roots map[antipode.Region]string `json:"roots,omitempty"`
	Error string                     `json:"error,omitempty"`
}

// JoinConfig says how a new region gets to know the others.
type JoinConfig struct {
	Address  string             // link address of the region that made the token, as host:port
	Token    string             // what Tokens.Create made there
	Identity *identity.Identity // of the new region
	Now      func() time.Time   // the wall clock. Required
}

// Join makes this region known to the others by way of the one that made the
// token, and returns the roots of all that are known there. It tells the other
// side nothing before that has proved, by the pin in the token, to be the right one.
func Join(ctx context.Context, cfg JoinConfig) (identity.Trust, error) {
	trust, err := join(ctx, cfg)
	if err != nil {
		return identity.Trust{}, fmt.Errorf("join by way of %s: %w", cfg.Address, err)
	}
	return trust, nil
}

func join(ctx context.Context, cfg JoinConfig) (identity.Trust, error) {
	token, err := identity.ParseToken(cfg.Token)
	if err != nil {
		return identity.Trust{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	var issuer antipode.Region
	var known identity.Trust
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{string(kindJoin)},
		Time:                   cfg.Now,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // the pin decides, in VerifyConnection
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			issuer, known, err = identity.VerifyPinned(state.PeerCertificates, token.Pin, cfg.Now())
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return cfg.Identity.Certificate(cfg.Now())
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", cfg.Address)
	if err != nil {
		return identity.Trust{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to send
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	request := joinRequest{Region: cfg.Identity.Region(), Root: cfg.Identity.RootPEM(), Secret: token.Secret[:]}
	if err := writeJoin(conn, request); err != nil {
		return identity.Trust{}, err
	}
	frame, err := readJoin(conn, maxJoinAnswer)
	if err != nil {
		return identity.Trust{}, fmt.Errorf("region %s did not answer: %w", issuer, errors.Join(err, ctx.Err()))
	}
	return decodeJoinAnswer(frame, issuer, known)
}

// decodeJoinAnswer reads the answer of the issuer, whose root is known already.
func decodeJoinAnswer(frame []byte, issuer antipode.Region, known identity.Trust) (identity.Trust, error) {
	var answer joinAnswer
	if err := json.Unmarshal(frame, &answer); err != nil {
		return identity.Trust{}, fmt.Errorf("read answer of region %s: %w", issuer, err)
	}
	if answer.Error != "" {
		return identity.Trust{}, fmt.Errorf("%w by region %s: %s", ErrJoinRefused, issuer, answer.Error)
	}
	trust, err := identity.NewTrust(answer.Roots)
	if err != nil {
		return identity.Trust{}, fmt.Errorf("read answer of region %s: %w", issuer, err)
	}
	if trust.Has(issuer) {
		return trust, nil
	}
	return trust.With(issuer, known.PEM(issuer))
}

// serveJoin answers one join. An error is for the log: the stranger got his own.
func (t *tcpTransport) serveJoin(conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(t.mesh.ctx, joinTimeout)
	defer cancel()
	if err := conn.SetDeadline(t.cfg.Now().Add(t.cfg.DialTimeout)); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	frame, err := readJoin(conn, maxJoinRequest)
	if err != nil {
		return fmt.Errorf("read join: %w", err)
	}
	if err := conn.SetDeadline(t.cfg.Now().Add(joinTimeout)); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	roots, refusal := t.admit(ctx, conn.ConnectionState(), frame)
	answer := joinAnswer{Roots: roots}
	if refusal != nil {
		answer = joinAnswer{Error: refusal.Error()}
	}
	return errors.Join(refusal, writeJoin(conn, answer))
}

// admit decides on a join.
func (t *tcpTransport) admit(ctx context.Context, state tls.ConnectionState, frame []byte) (map[antipode.Region]string, error) {
	request, secret, err := decodeJoinRequest(frame)
	if err != nil {
		return nil, err
	}
	claimed, err := identity.NewTrust(map[antipode.Region]string{request.Region: request.Root})
	if err != nil {
		return nil, err
	}
	if _, err := claimed.Verify(state.PeerCertificates, t.cfg.Now()); err != nil {
		return nil, fmt.Errorf("region %s did not prove that the root is its own: %w", request.Region, err)
	}
	if request.Region == t.cfg.Self {
		return nil, fmt.Errorf("%s is the name of the region that you join by way of; choose another", request.Region)
	}
	inv, restore, err := t.cfg.Tokens.Redeem(secret, request.Region, t.cfg.Now())
	if err != nil {
		return nil, err
	}
	if known := t.mesh.Trust().PEM(request.Region); known != "" && known != claimed.PEM(request.Region) && !inv.Replace {
		err = fmt.Errorf("a region %s with another root is known already; choose another name, or, if its machine is gone for good, join with a token that was made with --replace", request.Region)
	} else {
		err = t.cfg.OnJoin(ctx, request.Region, claimed.PEM(request.Region), inv.Replace)
	}
	if err != nil {
		return nil, errors.Join(err, restore())
	}
	t.cfg.Logger.Info("region joined", "peer", request.Region)
	return t.mesh.Trust().Roots(), nil
}

func decodeJoinRequest(frame []byte) (r joinRequest, secret [identity.SecretSize]byte, err error) {
	if err := json.Unmarshal(frame, &r); err != nil {
		return r, secret, fmt.Errorf("read join: %w", err)
	}
	if len(r.Secret) != len(secret) {
		return r, secret, fmt.Errorf("read join: secret has %d bytes in place of %d", len(r.Secret), len(secret))
	}
	copy(secret[:], r.Secret)
	return r, secret, nil
}

// writeJoin sends a message with its length before it.
func writeJoin(conn net.Conn, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode join: %w", err)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := conn.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send join: %w", err)
	}
	return nil
}

func readJoin(r io.Reader, most uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > most {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, most)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}
