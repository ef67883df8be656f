package rpcserver

// Seen is how many requests the server remembers.
func (s *Server) Seen() int { return s.guard.size() }
