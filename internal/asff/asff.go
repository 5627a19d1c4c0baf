// Package asff holds the part of the AWS Security Finding Format (ASFF) that our imports fill,
// its limits, and the IDs of our findings.
package asff

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of the AWS Security Finding Format and of BatchImportFindings.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
const (
	// MaxFindingsPerImport and MaxImportBytes are the limits of one call. AWS does not say whether
	// its 6 MB are decimal, so this is the smaller value.
	MaxFindingsPerImport = 100
	MaxImportBytes       = 6_000_000
	// MaxFindingBytes is the maximum size of one finding as JSON, 240 KB.
	MaxFindingBytes = 240_000
	// MaxResources is how many resources one finding may have.
	MaxResources = 32
	// FindingLifetime is how long after its last update Security Hub deletes a finding.
	FindingLifetime = 90 * 24 * time.Hour

	maxID    = 512
	maxTitle = 256
	// MaxDescription is the maximum length of a finding's description, in characters.
	MaxDescription      = 1024
	maxRecommendation   = 512
	maxResourceType     = 256
	maxProductFields    = 47 // 50 are allowed, and Security Hub adds three
	maxProductKey       = 128
	maxProductValue     = 2048
	maxOtherDetails     = 50
	maxOtherDetailValue = 1024
	maxResourceID       = 512
	maxURL              = 2048 // a limit of this project
	maxRegion           = 16
	maxTypes            = 50
	maxRelated          = 10
	maxCompany          = 128
	maxOriginal         = 64
)

// RecordState says whether a finding is active or archived.
type RecordState string

// The record states.
const (
	Active   RecordState = "ACTIVE"
	Archived RecordState = "ARCHIVED"
)

// The finding types that the native Device Defender integration uses.
const (
	TypeUnusualBehaviors = "Unusual Behaviors"
	TypeVulnerabilities  = "Software and Configuration Check/Vulnerabilities"
)

// Finding is a finding as defenderhub imports it into Security Hub. Its JSON form is the ASFF.
type Finding struct {
	SchemaVersion         string
	ID                    string `json:"Id"`
	ProductARN            string `json:"ProductArn"`
	GeneratorID           string `json:"GeneratorId"`
	AWSAccountID          string `json:"AwsAccountId"`
	CompanyName           string `json:",omitempty"`
	ProductName           string `json:",omitempty"`
	CreatedAt             Timestamp
	UpdatedAt             Timestamp
	FirstObservedAt       Timestamp `json:",omitzero"`
	LastObservedAt        Timestamp `json:",omitzero"`
	Title                 string
	Description           string
	SourceURL             string            `json:"SourceUrl,omitempty"`
	Remediation           *Remediation      `json:",omitempty"`
	ProductFields         map[string]string `json:",omitempty"`
	Resources             []Resource
	RecordState           RecordState
	FindingProviderFields FindingProviderFields
}

// Remediation says how to fix the finding.
type Remediation struct{ Recommendation Recommendation }

// Recommendation is a text of at most 512 characters and a link.
type Recommendation struct {
	Text string `json:",omitempty"`
	URL  string `json:"Url,omitempty"`
}

// FindingProviderFields are the fields that an importer must not set at the top level.
type FindingProviderFields struct {
	Severity FindingSeverity
	Types    []string
	// RelatedFindings has at most 10 elements.
	RelatedFindings []RelatedFinding `json:",omitempty"`
}

// RelatedFinding refers to another finding.
type RelatedFinding struct {
	ProductARN string `json:"ProductArn"`
	ID         string `json:"Id"`
}

// FindingSeverity is an ASFF label and the severity in the source's own words.
type FindingSeverity struct {
	Label    string
	Original string `json:",omitempty"`
}

// Resource is a resource that a finding is about.
type Resource struct {
	Type      string
	ID        string           `json:"Id"`
	Partition string           `json:",omitempty"`
	Region    string           `json:",omitempty"`
	Details   *ResourceDetails `json:",omitempty"`
}

// ResourceDetails hold key-value pairs: the ASFF has no details for AWS IoT resources.
type ResourceDetails struct {
	Other map[string]string `json:",omitempty"`
}

// Timestamp is a time in UTC with milliseconds, the format of Security Hub's samples.
type Timestamp struct{ time.Time }

const timestampForm = "2006-01-02T15:04:05.000Z"

// Milliseconds returns the Timestamp of a number of milliseconds since 1970.
func Milliseconds(ms int64) Timestamp { return Timestamp{time.UnixMilli(ms).UTC()} }

// String returns the time as the ASFF writes it.
func (t Timestamp) String() string { return t.UTC().Format(timestampForm) }

// MarshalText writes the ASFF format.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON writes the ASFF format.
func (t Timestamp) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads any RFC 3339 time.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	t.Time = parsed.UTC()
	return err
}

// Fit returns f within every limit of the ASFF, and does not change f's maps and slices. The result
// shares those that need no change.
//
// It cuts long texts on a character boundary and ends IDs of over 512 characters with a hash. It
// drops or replaces blank strings, and drops surplus pairs and resources from the end. If the
// finding is still larger than [MaxFindingBytes], Fit cuts the longest values, and then drops
// details of resources.
func (f Finding) Fit() Finding {
	f.SchemaVersion = "2018-10-08"
	f.ID = fitID(f.ID, maxID)
	f.GeneratorID = orText(fitID(f.GeneratorID, maxID), "defenderhub")
	f.Title = orText(fitText(f.Title, maxTitle), "Security finding")
	f.Description = orText(fitText(f.Description, MaxDescription), f.Title)
	f.SourceURL = fitURL(f.SourceURL)
	f.CompanyName, f.ProductName = fitText(f.CompanyName, maxCompany), fitText(f.ProductName, maxCompany)
	if f.Remediation != nil {
		r := f.Remediation.Recommendation
		r.Text, r.URL = fitText(r.Text, maxRecommendation), fitURL(r.URL)
		switch r {
		case Recommendation{}:
			f.Remediation = nil
		case f.Remediation.Recommendation:
		default:
			f.Remediation = &Remediation{r}
		}
	}
	provider := &f.FindingProviderFields
	provider.Severity.Original = fitText(provider.Severity.Original, maxOriginal)
	if slices.ContainsFunc(provider.Types, Blank) {
		provider.Types = slices.DeleteFunc(slices.Clone(provider.Types), Blank)
	}
	provider.Types = slices.Clip(provider.Types[:min(len(provider.Types), maxTypes)])
	provider.RelatedFindings = slices.Clone(provider.RelatedFindings[:min(len(provider.RelatedFindings), maxRelated)])
	for i := range provider.RelatedFindings {
		provider.RelatedFindings[i].ID = fitID(provider.RelatedFindings[i].ID, maxID)
	}
	f.ProductFields, _ = fitPairs(f.ProductFields, maxProductFields, maxProductKey, maxProductValue)
	f.Resources = slices.Clip(f.Resources[:min(len(f.Resources), MaxResources)])
	if len(f.Resources) == 0 {
		f.Resources = make([]Resource, 1)
	}
	f.Resources = fitResources(f.Resources, maxOtherDetailValue)
	return f.fitSize()
}

// Noted returns f with a note at the end of its description. A description that is too long is
// cut to make room for the note.
func (f Finding) Noted(note string) Finding {
	if note == "" {
		return f
	}
	text, added := []rune(f.Description), []rune(note)
	if len(text)+len(added) > MaxDescription && len(added) < MaxDescription {
		text = append(text[:max(0, min(len(text), MaxDescription-len(added)-1))], '…')
	}
	f.Description = string(text) + note
	return f
}

// fitResources returns resources that fit, in a new slice if one has to change.
func fitResources(resources []Resource, maxValue int) []Resource {
	for i, r := range resources {
		if r.fit(maxValue) == r {
			continue
		}
		resources = slices.Clone(resources)
		for j := range resources[i:] {
			resources[i+j] = resources[i+j].fit(maxValue)
		}
		break
	}
	return resources
}

// fit returns r within Security Hub's limits. If its details change, they are a new pointer.
func (r Resource) fit(maxValue int) Resource {
	r.Type = orText(fitText(r.Type, maxResourceType), "Other")
	r.ID = orText(fitID(r.ID, maxResourceID), "unknown")
	if r.Region = fitText(r.Region, maxRegion+1); utf8.RuneCountInString(r.Region) > maxRegion {
		r.Region = "" // a shortened name would be that of another Region, or of none
	}
	if r.Details != nil {
		switch other, changed := fitPairs(r.Details.Other, maxOtherDetails, maxProductKey, maxValue); {
		case other == nil:
			r.Details = nil
		case changed:
			r.Details = &ResourceDetails{other}
		}
	}
	return r
}

// timestampRoom leaves space, in bytes, for the timestamps that a finding gets later.
const timestampRoom = 256

// fitSize shortens the values of a finding until it is small enough.
func (f Finding) fitSize() Finding {
	if !f.tooLarge() {
		return f
	}
	for longest := maxOtherDetailValue; longest >= 16; longest /= 2 {
		f.ProductFields, _ = fitPairs(f.ProductFields, maxProductFields, maxProductKey, longest)
		f.Resources = fitResources(f.Resources, longest)
		if !f.tooLarge() {
			return f
		}
	}
	f.Resources = slices.Clone(f.Resources)
	for i := range f.Resources {
		f.Resources[i].Details = nil
	}
	return f
}

func (f Finding) tooLarge() bool {
	return f.BytesBound() > MaxFindingBytes-timestampRoom && len(f.AppendJSON(nil)) > MaxFindingBytes-timestampRoom
}

// BytesBound returns an upper bound for the size of f's JSON, in bytes. It is cheaper than
// encoding: an escape makes at most six bytes of one.
func (f Finding) BytesBound() int {
	fixed, raw := f.sizes()
	return fixed + 6*raw
}

// sizes returns two sizes in bytes: raw is that of f's texts before escaping, and fixed an upper
// bound for all else in f's JSON.
func (f Finding) sizes() (fixed, raw int) {
	const frame, perResource, perPair = 700, 100, 6
	raw = len(f.SchemaVersion) + len(f.ID) + len(f.ProductARN) + len(f.GeneratorID) + len(f.AWSAccountID) + len(f.CompanyName) + len(f.ProductName) +
		len(f.Title) + len(f.Description) + len(f.SourceURL) + len(f.RecordState) +
		len(f.FindingProviderFields.Severity.Label) + len(f.FindingProviderFields.Severity.Original)
	fixed = frame + perResource*len(f.Resources) + perPair*(len(f.ProductFields)+len(f.FindingProviderFields.Types))
	if f.Remediation != nil {
		raw += len(f.Remediation.Recommendation.Text) + len(f.Remediation.Recommendation.URL)
	}
	for _, t := range f.FindingProviderFields.Types {
		raw += len(t)
	}
	for _, r := range f.FindingProviderFields.RelatedFindings {
		raw, fixed = raw+len(r.ProductARN)+len(r.ID), fixed+perResource
	}
	for k, v := range f.ProductFields {
		raw += len(k) + len(v)
	}
	for _, r := range f.Resources {
		raw += len(r.Type) + len(r.ID) + len(r.Partition) + len(r.Region)
		if r.Details != nil {
			fixed += perPair * len(r.Details.Other)
			for k, v := range r.Details.Other {
				raw += len(k) + len(v)
			}
		}
	}
	return fixed, raw
}

func orText(s, other string) string {
	if Blank(s) {
		return other
	}
	return s
}

// fitText cuts s to n characters and removes unprintable characters.
func fitText(s string, n int) string {
	s = strings.TrimSpace(printable(s))
	if Blank(s) {
		return ""
	}
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:n-1])) + "…"
}

// printable replaces invalid UTF-8 and control characters: device text must not forge log lines
// or reverse the text direction of a console.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r),
			r == '\u2028' || r == '\u2029': // line and paragraph separators
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// fitID ends IDs of over n characters with a hash, which keeps them distinct.
func fitID(id string, n int) string {
	id = printable(id)
	if utf8.RuneCountInString(id) <= n {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	tail := "#" + hex.EncodeToString(sum[:16])
	return string([]rune(id)[:n-len(tail)]) + tail
}

// fitURL drops a link that is too long or unprintable: a shortened link does not work.
func fitURL(u string) string {
	if len(u) > maxURL || Blank(u) || printable(u) != u {
		return ""
	}
	return u
}

// fitPairs returns m if its pairs fit, else a new map: nil if no pair is left.
func fitPairs(m map[string]string, pairs, key, value int) (fit map[string]string, changed bool) {
	changed = len(m) == 0 || len(m) > pairs
	for k, v := range m {
		changed = changed || k == "" || v == "" || fitText(k, key) != k || fitText(v, value) != v
	}
	if !changed {
		return m, false
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := fitText(m[k], value)
		k = fitText(k, key)
		if k == "" || v == "" || len(fit) == pairs {
			continue
		}
		if fit == nil {
			fit = map[string]string{}
		}
		fit[k] = v
	}
	return fit, true
}

// DefaultProductARN returns the product under which an account imports its own findings. It
// exists as soon as Security Hub is enabled.
func DefaultProductARN(partition, region, account string) string {
	return "arn:" + partition + ":securityhub:" + region + ":" + account + ":product/" + account + "/default"
}

// Blank reports whether s has no printable character: Security Hub refuses such strings. Its
// validator is JavaScript, in which U+FEFF is white space too.
func Blank(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsControl(r) && r != '\uFEFF' }) < 0
}
