package report_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
)

var picture = flag.String("picture", "", "write the documents' picture of a report to this file")

// maxPicture is what the documents' picture may take, in bytes.
const maxPicture = 250 << 10

// excerpt leaves of a page what its picture shows: the verdict, and one figure each of
// logs and keys.
const excerpt = `(() => {
	for (const section of document.querySelectorAll("main > section")) {
		if (!["verdict", "timeline", "keyspace"].includes(section.id)) section.remove();
	}
	for (const section of document.querySelectorAll("main > section:not(#verdict)")) {
		const figure = section.querySelector("figure"), of = section.querySelector("h3");
		const source = of && of.nextElementSibling === figure ? ": " + of.textContent : "";
		section.querySelector("h2").append(source);
		section.replaceChildren(section.querySelector("h2"), figure);
	}
	document.querySelector("footer").remove();
	document.body.style.paddingBottom = "1rem";
	return document.documentElement.scrollHeight;
})()`

// TestPictureOfTheReportCanBeMade of what make demo inspects. With -picture it is kept.
func TestPictureOfTheReportCanBeMade(t *testing.T) {
	b := openBrowser(t)
	t.Chdir(t.TempDir())
	demo := filepath.Join("build", "demo")
	if err := fixtures.Unpack("cluster3-3.7-crash", demo); err != nil {
		t.Fatal(err)
	}
	page := renderPage(t, pageOf(t, filepath.Join(demo, "m1"), filepath.Join(demo, "m2"), filepath.Join(demo, "m3")))
	b.look(1000, "screen", "light")
	b.open(page)
	var height int
	b.eval(excerpt, &height)
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "clip": map[string]any{"x": 0, "y": 0, "width": 1000, "height": height, "scale": 1}}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if size := full.Bounds().Size(); size.X != 1000 || size.Y < 1000 || size.Y > 2500 {
		t.Errorf("the picture has %v pixels", size)
	}
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&small, withPalette(full)); err != nil {
		t.Fatal(err)
	}
	if small.Len() > maxPicture {
		t.Errorf("the picture takes %d bytes, more than %d", small.Len(), maxPicture)
	}
	if *picture != "" {
		if err := os.WriteFile(*picture, small.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPictureInTheDocumentsIsSmall holds what was kept to what is promised.
func TestPictureInTheDocumentsIsSmall(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "report.png"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, indexed := config.ColorModel.(color.Palette); !indexed || len(data) > maxPicture || config.Width != 1000 {
		t.Errorf("%d bytes, %d pixels wide, palette: %t", len(data), config.Width, indexed)
	}
}

// apart is the least difference of two colours of a palette, in one of red, green and blue.
const apart = 10

// near says whether a palette has nearly a color.
func near(palette color.Palette, c color.RGBA) bool {
	return slices.ContainsFunc(palette, func(of color.Color) bool {
		p := of.(color.RGBA)
		return max(p.R, c.R)-min(p.R, c.R) < apart && max(p.G, c.G)-min(p.G, c.G) < apart && max(p.B, c.B)-min(p.B, c.B) < apart
	})
}

// withPalette gives a picture of at most 256 colours, those that occur most and are not
// too near each other; for others it takes the nearest.
func withPalette(full image.Image) *image.Paletted {
	bounds := full.Bounds()
	counts := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return bytes.Compare([]byte{a.R, a.G, a.B}, []byte{b.R, b.G, b.B})
	})
	palette := color.Palette{}
	for _, c := range colors {
		if len(palette) < 256 && !near(palette, c) {
			palette = append(palette, c)
		}
	}
	small, index := image.NewPaletted(bounds, palette), map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, known := index[c]
			if !known {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	return small
}
