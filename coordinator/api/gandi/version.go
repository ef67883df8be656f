package gandi

// apiVersion is the version of the original whose documents this dialect follows. Clients compare its first two numbers.
const apiVersion = "3.3.42"

func (c *call) versionInfo() error {
	c.out.BeginStruct()
	fieldApiVersion.String(c.out, apiVersion)
	c.out.EndStruct()
	return nil
}
