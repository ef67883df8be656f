// Package web is what the handlers of the two web servers share: which names they accept (spec agent-web 6), certificates
// on disk, service verbs that find out whether a reload really worked, and how old callers' parameters are read. It is a
// library for handlers/apache and handlers/nginx and offers no RPC itself.
package web
