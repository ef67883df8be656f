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

// IsRead says that a process is in the middle of reading.
func (h *Host) IsRead(r Readers) bool { return h.isRead(r) }

// Quiet begins what a step that waits for readers begins; release ends it.
func (h *Host) Quiet(r Readers) (release func()) {
	q := hush{h: h, readers: r}
	q.begin()
	return q.end
}
