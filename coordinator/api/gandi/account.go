package gandi

// accountInfo is hosting.account.info. There are no credits: nothing is charged.
func (c *call) accountInfo() error {
	a := c.p.Account
	c.out.BeginStruct()
	fieldHandle.String(c.out, a.Handle)
	fieldID.Int(c.out, a.Num)
	fieldFullname.String(c.out, a.Email)
	fieldCredits.Int(c.out, 0)
	c.out.EndStruct()
	return nil
}

// contactBalance is contact.balance.
func (c *call) contactBalance() error {
	c.out.BeginStruct()
	fieldPrepaid.Begin(c.out)
	c.out.BeginStruct()
	fieldAmount.Double(c.out, 0)
	fieldCurrency.String(c.out, "EUR")
	c.out.EndStruct()
	c.out.EndMember()
	c.out.EndStruct()
	return nil
}

// rating is what a resource costs. Nothing is charged, so there are none.
type rating struct{}

func (c *call) ratingList() error {
	return serveList(c, nil, nothing[rating], func(*call, *rating) {})
}
