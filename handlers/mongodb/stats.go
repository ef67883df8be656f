package mongodb

import "context"

// Up says whether the server answers. ok is false on a host without MongoDB.
func (s *Service) Up(ctx context.Context) (up, ok bool) {
	address, err := s.address()
	if err != nil {
		return false, false
	}
	return s.answersAt(ctx, address) == nil, true
}
