package report

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium. .ci/run installs it; elsewhere the tests that need it are skipped.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("Chromium is not installed: apt-get install chromium")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// written returns the address of a page with hostile text everywhere.
func written(t *testing.T, change func(string) string) string {
	t.Helper()
	d := fleet()
	d.Missing = []string{hostile}
	d.Stack, d.Queues[0].Name, d.Audit.ID = hostile, hostile, hostile
	var out bytes.Buffer
	if err := write(&out, d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, []byte(change(out.String())), 0o644); err != nil {
		t.Fatal(err)
	}
	return "file://" + path
}

func same(text string) string { return text }

// requests records the addresses that the browser asks for.
func requests(ctx context.Context) func() []string {
	var mu sync.Mutex
	var all []string
	chromedp.ListenTarget(ctx, func(event any) {
		if e, ok := event.(*network.EventRequestWillBeSent); ok {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, e.Request.URL)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func TestPageInABrowser(t *testing.T) {
	ctx := browser(t)
	address := written(t, same)
	asked := requests(ctx)
	if err := chromedp.Run(ctx, network.Enable(), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	for _, url := range asked() {
		if url != address {
			t.Errorf("the page asked for %s", url)
		}
	}
	for _, width := range []int64{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			var overflow float64
			var ink, paper string
			if err := chromedp.Run(ctx,
				chromedp.EmulateViewport(width, 900),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
				chromedp.Evaluate(`getComputedStyle(document.body).color`, &ink),
				chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &paper),
			); err != nil {
				t.Fatal(err)
			}
			if overflow > 0 {
				t.Errorf("%d pixels, %s: the page is %v pixels too wide", width, scheme, overflow)
			}
			if want := map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(15, 27, 42)"}[scheme]; paper != want || ink == paper {
				t.Errorf("%s: ink %s on paper %s, want %s", scheme, ink, paper, want)
			}
			screenshot(t, ctx, scheme, width)
		}
	}
	var unreachable int
	if err := chromedp.Run(ctx, chromedp.Evaluate(`[...document.querySelectorAll('summary, a, .scroll')].filter(e => e.tabIndex < 0).length`, &unreachable)); err != nil || unreachable > 0 {
		t.Errorf("%d elements cannot be reached by keyboard, error %v", unreachable, err)
	}
	var unnamed int
	if err := chromedp.Run(ctx, chromedp.Evaluate(`[...document.querySelectorAll('svg:not([aria-hidden]), .scroll')].filter(e => !e.getAttribute('aria-label')).length`, &unnamed)); err != nil || unnamed > 0 {
		t.Errorf("%d charts and tables have no name for a screen reader, error %v", unnamed, err)
	}
}

func TestPageOnPaper(t *testing.T) {
	ctx := browser(t)
	var pdf []byte
	var paper string
	if err := chromedp.Run(ctx, chromedp.Navigate(written(t, same)),
		emulation.SetEmulatedMedia().WithMedia("print").WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &paper),
		chromedp.ActionFunc(func(ctx context.Context) (err error) {
			pdf, _, err = cdppage.PrintToPDF().Do(ctx)
			return err
		}),
	); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(pdf, []byte("%PDF")) || paper != "rgb(255, 255, 255)" {
		t.Errorf("printed %d bytes on %s", len(pdf), paper)
	}
}

// TestRequestsWouldBeSeen is the control of the test above.
func TestRequestsWouldBeSeen(t *testing.T) {
	ctx := browser(t)
	asked := requests(ctx)
	address := written(t, func(text string) string {
		text = strings.Replace(text, `http-equiv="Content-Security-Policy"`, "", 1)
		return strings.Replace(text, "<header>", `<img src="http://127.0.0.1:1/x.png"><header>`, 1)
	})
	if err := chromedp.Run(ctx, network.Enable(), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked(), " "); !strings.Contains(got, "http://127.0.0.1:1/x.png") {
		t.Errorf("asked for %s", got)
	}
}

// screenshot keeps a picture in the folder DEFENDERHUB_SCREENSHOTS, if that is set.
func screenshot(t *testing.T, ctx context.Context, scheme string, width int64) {
	folder := os.Getenv("DEFENDERHUB_SCREENSHOTS")
	if folder == "" {
		return
	}
	var picture []byte
	if err := chromedp.Run(ctx, chromedp.FullScreenshot(&picture, 100)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, scheme+"-"+map[int64]string{360: "narrow", 1280: "wide"}[width]+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
