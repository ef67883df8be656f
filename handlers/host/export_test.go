package host

// ApplyUntil is Apply that stops, as a kill would, when stop says so of the number of steps done.
func (s *Staged) ApplyUntil(stop func(done int) bool) error {
	if err := s.journal(); err != nil {
		return err
	}
	for i, step := range s.steps {
		if stop(i) {
			return nil
		}
		if err := s.h.applyStep(step); err != nil {
			return err
		}
	}
	return nil
}
