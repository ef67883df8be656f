package core

import (
	"context"
	"slices"
)

// PlatformNeeds are what a platform needs of the nodes and units that it runs on.
type PlatformNeeds struct {
	Image    bool // an image that names it among its Platforms
	MemoryMB int  // that a unit has at least; 0: any will do
}

// Platforms lists, sorted, what shared apps can be made of: what agents run, if there is an image for it.
func (c *Core) Platforms(ctx context.Context) []string {
	var images []Image
	cloud, err := c.appCloud()
	if err == nil {
		images, err = cloud.Images(ctx)
	}
	if err != nil {
		c.Log.Warn("images could not be listed; platforms that not every image has are not offered", "err", err)
	}
	return slices.DeleteFunc(slices.Clone(c.PlatformNames), func(name string) bool {
		_, found := c.imageWith(images, name)
		return c.PlatformNeeds[name].Image && !found
	})
}

// runs says whether nodes of an image run a platform; "" is none in particular.
func (c *Core) runs(image Image, platform string) bool {
	return !c.PlatformNeeds[platform].Image || slices.Contains(image.Platforms, platform)
}

// imageWith is the first of the images whose nodes run a platform.
func (c *Core) imageWith(images []Image, platform string) (Image, bool) {
	i := slices.IndexFunc(images, func(image Image) bool { return c.runs(image, platform) })
	if i < 0 {
		return Image{}, false
	}
	return images[i], true
}

// imageFor is the image that nodes for a platform boot from.
//
// Errors: unavailable (there is none)
func (c *Core) imageFor(images []Image, platform string) (Image, error) {
	image, found := c.imageWith(images, platform)
	switch {
	case found:
		return image, nil
	case len(images) == 0:
		return image, Errorf(Unavailable, ObjImage, "there is no node image yet; build one with: reeve-coordinator image build")
	}
	return image, Errorf(Unavailable, ObjImage, "no node image has %s; build one with: reeve-coordinator image build --with %s", platform, platform)
}

// poolRuns says of nodes of the pool whether they run a platform: their images may be older than it.
func (c *Core) poolRuns(ctx context.Context, platform string) (func(Node) bool, error) {
	if !c.PlatformNeeds[platform].Image {
		return func(Node) bool { return true }, nil
	}
	cloud, err := c.appCloud()
	if err != nil {
		return nil, err
	}
	images, err := cloud.Images(ctx)
	return func(n Node) bool {
		return slices.ContainsFunc(images, func(i Image) bool { return i.ID == n.ImageID && c.runs(i, platform) })
	}, err
}

// roomyMB is the memory of a node on which several units have room, when sizes tell.
const roomyMB = 1024

// roomy is the first size with that much memory, or else the last.
func roomy(sizes []Size) Size {
	if i := slices.IndexFunc(sizes, func(s Size) bool { return s.MemoryMB >= roomyMB }); i >= 0 {
		return sizes[i]
	}
	return sizes[len(sizes)-1]
}
