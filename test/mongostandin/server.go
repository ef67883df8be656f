package mongostandin

import (
	"errors"
	"net"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Options configure a Server.
type Options struct {
	Auth bool // a client must log in, but for the first user (MongoDB's localhost exception)

	// SetName makes it a member of a replica set, a secondary when Primary names another member.
	SetName, Primary string

	// Data is what an earlier Server left (see Server.Data).
	Data Data
}

// Data is what a server keeps.
type Data struct {
	Users     map[string]User                `json:"users"`     // "<database>.<name>"
	Documents map[string]map[string][][]byte `json:"documents"` // database, collection, BSON
}

// User is an account. A server that is real keeps salted keys; a stand-in keeps the password and derives them.
type User struct {
	Database string `json:"database"`
	Name     string `json:"name"`
	Password string `json:"password"`
	Roles    []Role `json:"roles"`
}

// Role is what a user may do.
type Role struct {
	Role     string `json:"role"`
	Database string `json:"database"`
}

// Server is a stand-in. Its methods may be called from any goroutine.
type Server struct {
	opts     Options
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex // protects the fields below
	data     Data
	clients  map[net.Conn]bool
	commands []string // names, in order
	refuse   map[string]int
	changed  func(Data)
}

// New builds a server that listens on an address, such as "127.0.0.1:0".
func New(address string, o Options) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, listener: l, data: o.Data, clients: map[net.Conn]bool{}, refuse: map[string]int{}, changed: func(Data) {}}
	if s.data.Users == nil {
		s.data.Users = map[string]User{}
	}
	if s.data.Documents == nil {
		s.data.Documents = map[string]map[string][][]byte{}
	}
	return s, nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// OnChange has fn called, one call at a time, after every change of data. Call it before Serve.
func (s *Server) OnChange(fn func(Data)) { s.changed = fn }

// Data is what it keeps now; do not change it.
func (s *Server) Data() Data {
	s.mu.Lock()
	defer s.mu.Unlock()
	users := map[string]User{}
	for k, v := range s.data.Users {
		users[k] = v
	}
	return Data{Users: users, Documents: s.data.Documents}
}

// Commands are the names of the commands so far, in order, without a driver's hellos.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// FailNext makes the next command of a name fail.
func (s *Server) FailNext(command string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[command]++
}

// Serve answers until Close.
func (s *Server) Serve() error {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.clients[c] = true
		s.mu.Unlock()
		s.running.Go(func() {
			defer func() {
				_ = c.Close()
				s.mu.Lock()
				delete(s.clients, c)
				s.mu.Unlock()
			}()
			(&session{server: s, conn: c, logins: map[string]User{}}).serve()
		})
	}
}

// Close ends all connections and waits for them.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// session is one connection.
type session struct {
	server *Server
	conn   net.Conn
	logins map[string]User // by database
	sasl   *exchange
}

func (c *session) serve() {
	for {
		req, err := readRequest(c.conn)
		if err != nil {
			return // also io.EOF: the client has gone, or does not speak this
		}
		answer := c.answer(req.body)
		message, err := req.reply(answer)
		if err != nil {
			return
		}
		if _, err := c.conn.Write(message); err != nil {
			return
		}
	}
}

// lookup finds a member of a document.
func lookup(d bson.D, key string) any {
	for _, e := range d {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

func text(d bson.D, key string) string {
	s, _ := lookup(d, key).(string)
	return s
}
