package gandi

// accountInfo is hosting.account.info. There are no credits: nothing is charged.
func (c *call) accountInfo() error {
	a := c.p.Account
	c.out.BeginStruct()
	c.out.MemberString("handle", a.Handle)
	c.out.MemberInt("id", a.Num)
	c.out.MemberString("fullname", a.Email)
	c.out.MemberInt("credits", 0)
	c.out.EndStruct()
	return nil
}

// contactBalance is contact.balance.
func (c *call) contactBalance() error {
	c.out.BeginStruct()
	c.out.BeginMember("prepaid")
	c.out.BeginStruct()
	c.out.MemberDouble("amount", 0)
	c.out.MemberString("currency", "EUR")
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
