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
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithBrowserOption(chromedp.WithDialTimeout(2*time.Minute)))
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// writePage returns the address of a page with hostile text everywhere.
func writePage(t *testing.T, change func(string) string) string {
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

func unchanged(text string) string { return text }

// recordRequests returns a function that returns the addresses that the browser has requested.
func recordRequests(ctx context.Context) func() []string {
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

func TestPageOnScreen(t *testing.T) {
	ctx := browser(t)
	address := writePage(t, unchanged)
	requested := recordRequests(ctx)
	if err := chromedp.Run(ctx, network.Enable(), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	for _, url := range requested() {
		if url != address {
			t.Errorf("the page requested %s", url)
		}
	}
	for _, width := range []int64{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			var overflow float64
			var color, background string
			if err := chromedp.Run(ctx,
				chromedp.EmulateViewport(width, 900),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
				chromedp.Evaluate(`getComputedStyle(document.body).color`, &color),
				chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &background),
			); err != nil {
				t.Fatal(err)
			}
			if overflow > 0 {
				t.Errorf("%d pixels, %s: the page is %v pixels too wide", width, scheme, overflow)
			}
			if want := map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(15, 27, 42)"}[scheme]; background != want || color == background {
				t.Errorf("%s: text color %s on background %s, want background %s", scheme, color, background, want)
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
	var background string
	if err := chromedp.Run(ctx, chromedp.Navigate(writePage(t, unchanged)),
		emulation.SetEmulatedMedia().WithMedia("print").WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &background),
		chromedp.ActionFunc(func(ctx context.Context) (err error) {
			pdf, _, err = cdppage.PrintToPDF().Do(ctx)
			return err
		}),
	); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(pdf, []byte("%PDF")) || background != "rgb(255, 255, 255)" {
		t.Errorf("printed %d bytes on %s, want a PDF on white", len(pdf), background)
	}
}

// TestRequestsAreRecorded checks that TestPageOnScreen would fail for a page that loads an image.
func TestRequestsAreRecorded(t *testing.T) {
	ctx := browser(t)
	requested := recordRequests(ctx)
	address := writePage(t, func(text string) string {
		text = strings.Replace(text, `http-equiv="Content-Security-Policy"`, "", 1)
		return strings.Replace(text, "<header>", `<img src="http://127.0.0.1:1/x.png"><header>`, 1)
	})
	if err := chromedp.Run(ctx, network.Enable(), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(requested(), " "); !strings.Contains(got, "http://127.0.0.1:1/x.png") {
		t.Errorf("requested %s, want http://127.0.0.1:1/x.png among them", got)
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
