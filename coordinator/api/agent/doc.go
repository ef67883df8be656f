// Package agent answers what agents ask and takes what they tell by themselves (spec agent-core, appendix A).
//
//	POST /agent/queryenv/VERSION/COMMAND   a signed form, answered in XML
//	POST /agent/messages/QUEUE             a sealed message, JSON or XML; 201 once it is taken
//
// Both are proved with the key of the node that X-Server-Id names, over the date, which may be 5 minutes off. A repeated
// question is answered again, since it changes nothing; a repeated message is known by its id, and a request about a volume by the
// name it has (volume.go). Failures are plain text: 403 with
// "Signature doesn't match" whatever of it is wrong, 400 what makes no sense, 500 and 503 try again.
//
// Replies are encoded twice, because the reader decodes entities once before it parses.
package agent
