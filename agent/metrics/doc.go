// Package metrics is what the agent shows to Prometheus: one collector per file, each of which reports its own duration
// and success on every scrape.
//
//	set := metrics.New(log, metrics.CPU{Host: h}, metrics.Memory{Host: h}, …)
//	mux.Handle("/metrics", set.Handler())
//
// Names are reeve_<subsystem>_<noun>_<unit> in base units, counters end in _total. Labels are small sets that the host
// itself bounds: CPUs, disks, interfaces, mounted filesystems, configured units.
//
// A service adds its own collector by implementing Collector; it needs not import this package.
//
// Scrapes must stay cheap (see BenchmarkScrape): files below /proc are read into pooled buffers and parsed in place,
// nothing is kept between scrapes, and answers are not compressed, which would cost more than all the rest.
package metrics
