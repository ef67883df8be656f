package agentapi

// Texts of HTTP 400 answers, outside of the envelope, that a caller can do something about: both may succeed when they are
// sent again as a new request.
const (
	RefusedReplay = "Request was already used" // it arrived before, and its reply was lost on the way
	RefusedClock  = "Date is too far from this host's clock, which the Date of this reply shows"
)
