package report_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var shots = flag.String("shots", "", "write pictures of the pages to this folder")

// A browser is Chromium without a window, spoken to through pipes as its DevTools
// protocol has it: messages in JSON, each ended by a zero byte.
type browser struct {
	t       *testing.T
	out     *os.File
	in      *bufio.Reader
	session string
	id      int
	events  []browserEvent // that came since the page was opened
}

// A browserMessage is an answer when it has an ID, otherwise an event.
type browserMessage struct {
	ID     int
	Error  *struct{ Message string }
	Result json.RawMessage
	browserEvent
}

type browserEvent struct {
	Method string
	Params json.RawMessage
}

// openBrowser skips the test when there is no Chromium.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("skipped: no chromium (make tools installs it)")
	}
	childIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
		"--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{childIn, childOut} // descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	stuck := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	b := &browser{t: t, out: out, in: bufio.NewReader(in)}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil)
		cmd.Wait()
		stuck.Stop()
		out.Close()
		in.Close()
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// call asks for one thing and waits for its answer; events that come before it are kept.
func (b *browser) call(method string, params, answer any) {
	b.t.Helper()
	b.id++
	request := map[string]any{"id": b.id, "method": method}
	if params != nil {
		request["params"] = params
	}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	for err == nil {
		var m browserMessage
		if m, err = b.receive(); err != nil {
			break
		}
		if m.ID != b.id {
			b.events = append(b.events, m.browserEvent)
			continue
		}
		if m.Error != nil {
			err = errors.New(m.Error.Message)
		} else if answer != nil {
			err = json.Unmarshal(m.Result, answer)
		}
		break
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *browser) receive() (m browserMessage, err error) {
	text, err := b.in.ReadBytes(0)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text[:len(text)-1], &m)
}

// eval gives the value of an expression on the page.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Text string }
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, answer.ExceptionDetails.Text)
	}
	if err := json.Unmarshal(answer.Result.Value, value); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// open shows a page, and waits until it is whole.
func (b *browser) open(page []byte) {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "report.html")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	var state string
	for range 200 {
		b.eval("location.protocol + document.readyState", &state)
		if state == "file:complete" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Fatalf("the page stays %s", state)
}

// look sets how the page is looked at.
func (b *browser) look(width int, media, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// shoot writes a picture of the whole page, when pictures are wanted.
func (b *browser) shoot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(*shots, name+".png"), data, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// quiet insists that the page asked for nothing, said nothing and failed nowhere.
func (b *browser) quiet() {
	b.t.Helper()
	documents := 0
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening":
			b.t.Errorf("%s: %s", e.Method, e.Params)
		case "Network.requestWillBeSent":
			var sent struct {
				Type    string
				Request struct{ URL string }
			}
			if json.Unmarshal(e.Params, &sent) != nil || sent.Type != "Document" || !strings.HasSuffix(sent.Request.URL, "/report.html") {
				b.t.Errorf("the page asked for %s", sent.Request.URL)
			}
			documents++
		}
	}
	if documents != 1 {
		b.t.Errorf("%d documents were loaded", documents)
	}
}

func TestChromiumShowsPages(t *testing.T) {
	b := openBrowser(t)
	for _, f := range []struct {
		name, fixture string
		files         []string
	}{
		{"hostile", "", nil}, {"single", "healthy-3.7", []string{"snapshot.db"}}, {"cluster", "cluster3-3.7-crash", []string{"m1", "m2", "m3"}}, {"damaged", "leaf-zeroed", []string{"m1"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			p := hostilePage(hostileText)
			if f.fixture != "" {
				p = pageOf(t, fixturePaths(t, f.fixture, f.files...)...)
			}
			name, page := f.name, renderPage(t, p)
			b.t = t
			b.look(1200, "screen", "light")
			b.open(page)
			for _, l := range []struct {
				name          string
				width         int
				media, scheme string
			}{{"light", 1200, "screen", "light"}, {"dark", 1200, "screen", "dark"}, {"narrow", 360, "screen", "light"}, {"print", 720, "print", "light"}} {
				b.look(l.width, l.media, l.scheme)
				b.shoot(name + "-" + l.name)
				var wide int
				if b.eval("document.documentElement.scrollWidth", &wide); wide > l.width {
					var widest string
					b.eval(`[...document.querySelectorAll("main *")].reduce((a, e) => e.getBoundingClientRect().right > a.getBoundingClientRect().right ? e : a).outerHTML.slice(0, 200)`, &widest)
					t.Errorf("%s: the page is %d wide, more than %d: %s", l.name, wide, l.width, widest)
				}
			}
			b.look(1200, "screen", "dark")
			var paper string
			if b.eval("getComputedStyle(document.documentElement).backgroundColor", &paper); paper != "rgb(18, 22, 27)" {
				t.Errorf("in the dark the paper is %s", paper)
			}
			var unreachable int
			b.eval("[...document.querySelectorAll('a, button, .scroll, pre')].filter(e => e.tabIndex < 0).length", &unreachable)
			if unreachable > 0 {
				t.Errorf("%d elements cannot be reached with a keyboard", unreachable)
			}
			b.copies(page)
			b.quiet()
		})
	}
	b.t = t // of what ends it
}

// copies presses the first copy button and insists that the command can be pasted.
func (b *browser) copies(page []byte) {
	b.t.Helper()
	var buttons, commands int
	b.eval("document.querySelectorAll('.command button').length", &buttons)
	commands = strings.Count(string(page), `<div class="command">`)
	if buttons != commands {
		b.t.Fatalf("%d buttons for %d commands", buttons, commands)
	}
	if buttons == 0 {
		return
	}
	var said string
	b.eval(`new Promise(done => {
		document.querySelector(".command button").click();
		const said = document.querySelector(".command [role=status]");
		const wait = setInterval(() => { if (said.textContent !== "") { clearInterval(wait); done(said.textContent); } }, 20);
	})`, &said)
	if said != "copied" && said != "selected" {
		b.t.Errorf("the button says %q", said)
	}
	if said == "selected" {
		var same bool
		b.eval(`getSelection().toString() === document.querySelector(".command code").textContent`, &same)
		if !same {
			b.t.Error("what is selected is not the command")
		}
	}
}
