package rehearse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports lie below those that systems give to connections, so that none is taken between
// being found and being used.
const (
	firstPort = 20000
	lastPort  = 32000
)

// A port is one on loopback that is kept until etcd takes it.
type port struct {
	listener net.Listener
	url      string
}

// keepPorts finds n free ports.
func keepPorts(n int) ([]port, error) {
	var ports []port
	var last error
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		at := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		l, err := net.Listen("tcp", at)
		if err != nil {
			last = err
			continue
		}
		ports = append(ports, port{l, "http://" + at})
	}
	release(ports)
	return nil, errors.Join(errors.New("no free ports on loopback"), last)
}

// release lets the ports go.
func release(ports []port) {
	for _, p := range ports {
		p.listener.Close()
	}
}
