// Package fleet stores the distributions of the whole fleet's measurements in the state table:
// the sketches behind percentile thresholds and baselines.
//
// A batch of telemetry adds one item per population ([engine.FleetKey]) and window: a partial
// sketch under the batch's own ID. So batches never wait for each other, and a retried batch
// counts once. When all samples of a window have arrived, its partials are merged into its
// sketch, which each environment of the function reads once and caches. When a day is over,
// [Store.Compact] merges its windows into one item, from which baselines are made.
//
// Costs: writes per window are batches times populations, however many devices a batch has; a
// batch across two windows counts twice. A partial of up to 1 KB, some 300 bins, takes one write
// unit. It never takes more than 40 ([sketch.MaxBytes], a tenth of an item's maximum). Reads per
// window are one query per population and environment, half a read unit for each 4 KB of
// partials. A day takes one write per population, and one read of all its partials.
package fleet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// API is the part of the DynamoDB client that a [Store] calls.
type API interface {
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

const (
	day = 24 * time.Hour
	// windowsKept leaves two days for merging a past day. daysKept is one day longer than a
	// baseline looks back, plus margins. Both count from the start.
	windowsKept = 3*day + 2*time.Hour
	daysKept    = (engine.BaselineDays + 2) * day
	// absenceCached is how long an unmerged day is not queried again.
	absenceCached = 10 * time.Minute
	// maxCached is how many sketches are cached: mostly some 12 KB each, and more only if
	// thousands of devices measure very different values.
	maxCached = 2048
	// parallel is the number of concurrent calls of one kind.
	parallel = 8
)

// Config of a [Store].
type Config struct {
	Table string
	// Lateness is [engine.Evaluator.Lateness], MinDatapoints [engine.History.MinDatapoints].
	Lateness      time.Duration
	MinDatapoints int64
	Log           *slog.Logger
}

// Store is safe for concurrent use. It takes the time only from its callers.
type Store struct {
	api    API
	config Config
	memory *lru.Cache[place, memory]
}

// place is a window or a day of a population.
type place struct{ pk, sk string }

// memory is a sketch that no longer changes; nil means none.
type memory struct {
	sketch *sketch.Sketch
	// until is the time (ms) until which absence is cached.
	until int64
}

// New returns the store in a table.
func New(api API, c Config) (*Store, error) {
	m, err := lru.New[place, memory](maxCached)
	return &Store{api, c, m}, err
}

func windowPartition(k engine.FleetKey, start int64) string {
	return "window#" + name(k) + "#" + strconv.FormatInt(start, 10)
}

func dayPartition(k engine.FleetKey) string { return "day#" + name(k) }

func daySort(start int64) string { return time.UnixMilli(start).UTC().Format(time.DateOnly) }

// name returns the name of a population, at most 300 bytes: five topic filters may exceed a key's
// maximum.
func name(k engine.FleetKey) string {
	digest := ""
	if k.Dimension != "" {
		sum := sha256.Sum256([]byte(k.Dimension))
		digest = hex.EncodeToString(sum[:16])
	}
	k.Dimension = digest
	return k.String()
}

// complete returns the time (ms) at which all samples of a window have arrived.
func (s *Store) complete(k engine.FleetKey, start int64) int64 {
	return start + (k.Window.Duration() + s.config.Lateness + engine.SampleMargin).Milliseconds()
}

// Add adds the samples of a batch, separately for each thing. id, of 1 to 1024 bytes, identifies
// the batch and must be the same when it is retried: only the first write counts. at is the
// oldest time of the batch.
//
// Add returns how many samples it left out: those that are not numbers, and those of windows that
// were complete by then, because their sketches no longer change.
func (s *Store) Add(ctx context.Context, id string, at time.Time, all []engine.Samples) (left int, err error) {
	sketches := map[engine.Population]*sketch.Sketch{}
	for _, samples := range all {
		for of, value := range samples {
			part := cmp.Or(sketches[of], &sketch.Sketch{})
			if s.complete(of.Key, of.Start) <= at.UnixMilli() || part.Add(value) != nil {
				left++
				continue
			}
			sketches[of] = part
		}
	}
	puts, ctx := errgroup.WithContext(ctx)
	puts.SetLimit(parallel)
	for of, part := range sketches {
		puts.Go(func() error {
			_, err := s.put(ctx, place{windowPartition(of.Key, of.Start), id}, part, of.Start+windowsKept.Milliseconds())
			return err
		})
	}
	return left, puts.Wait()
}

const attrSketch = "sketch"

type item = map[string]types.AttributeValue

// put writes a sketch and reports whether it was the first there.
func (s *Store) put(ctx context.Context, p place, values *sketch.Sketch, expires int64) (bool, error) {
	packed, err := values.MarshalBinary()
	if err != nil {
		return false, err
	}
	_, err = s.api.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &s.config.Table,
		Item: item{
			contract.StatePartitionKey: attribute.Text(p.pk), contract.StateSortKey: attribute.Text(p.sk),
			attrSketch:           &types.AttributeValueMemberB{Value: packed},
			contract.StateExpiry: attribute.Number(expires / 1000),
		},
		ConditionExpression:      aws.String("attribute_not_exists(#pk)"),
		ExpressionAttributeNames: map[string]string{"#pk": contract.StatePartitionKey},
	})
	var exists *types.ConditionalCheckFailedException
	if errors.As(err, &exists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("PutItem of table %s: %w", s.config.Table, err)
	}
	return true, nil
}

// each calls found with every sketch of a partition, or only those with sort keys from and to if
// these are given. Eventual consistency is enough: what it reads was written long ago, or is read
// again. An unreadable sketch is logged and counts as missing, so that it does not block judging
// until it expires.
func (s *Store) each(ctx context.Context, pk, from, to string, found func(sk string, part *sketch.Sketch) error) error {
	in := &dynamodb.QueryInput{
		TableName:                 &s.config.Table,
		KeyConditionExpression:    aws.String("#pk = :pk"),
		ExpressionAttributeNames:  map[string]string{"#pk": contract.StatePartitionKey},
		ExpressionAttributeValues: item{":pk": attribute.Text(pk)},
	}
	if from != "" {
		in.KeyConditionExpression = aws.String("#pk = :pk AND #sk BETWEEN :from AND :to")
		in.ExpressionAttributeNames["#sk"] = contract.StateSortKey
		in.ExpressionAttributeValues[":from"], in.ExpressionAttributeValues[":to"] = attribute.Text(from), attribute.Text(to)
	}
	for pages := dynamodb.NewQueryPaginator(s.api, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("query of table %s: %w", s.config.Table, err)
		}
		for _, it := range page.Items {
			sk, _ := it[contract.StateSortKey].(*types.AttributeValueMemberS)
			packed, _ := it[attrSketch].(*types.AttributeValueMemberB)
			part := &sketch.Sketch{}
			if sk == nil || packed == nil {
				err = errors.New("item is not a sketch")
			} else {
				err = part.UnmarshalBinary(packed.Value)
			}
			if err != nil {
				s.config.Log.Warn("sketch of the fleet was left out", "partition", pk, "reason", err.Error())
				continue
			}
			if err := found(sk.Value, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// window merges the partials of a window.
func (s *Store) window(ctx context.Context, k engine.FleetKey, start int64) (*sketch.Sketch, error) {
	all := &sketch.Sketch{}
	return all, s.each(ctx, windowPartition(k, start), "", "", func(_ string, part *sketch.Sketch) error {
		all.Merge(part)
		return nil
	})
}

// days reads the days of a baseline up to the newest, and also caches which are missing. A day
// whose windows have expired stays missing.
func (s *Store) days(ctx context.Context, k engine.FleetKey, newest int64, at time.Time) (map[place]memory, error) {
	pk := dayPartition(k)
	read := map[place]memory{}
	oldest := newest
	for range engine.BaselineDays {
		until := at.Add(absenceCached).UnixMilli()
		if at.UnixMilli() >= oldest+windowsKept.Milliseconds()+day.Milliseconds() {
			until = math.MaxInt64
		}
		read[place{pk, daySort(oldest)}] = memory{until: until}
		oldest -= day.Milliseconds()
	}
	oldest += day.Milliseconds()
	err := s.each(ctx, pk, daySort(oldest), daySort(newest), func(sk string, values *sketch.Sketch) error {
		read[place{pk, sk}] = memory{sketch: values}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for p, m := range read {
		s.memory.Add(p, m)
	}
	return read, nil
}

// Compact merges the windows of the last two days that are complete at a time, unless they are
// merged already. keys are the populations of behaviors with a baseline. Concurrent calls write the
// same sketch, and the first write counts. A write after [engine.DayMargin] is too late for some
// datapoints.
func (s *Store) Compact(ctx context.Context, keys []engine.FleetKey, at time.Time) error {
	newest := at.Add(-s.config.Lateness - engine.SampleMargin).Truncate(day).Add(-day).UnixMilli()
	var faults []error
	for _, k := range keys {
		faults = append(faults, s.compact(ctx, k, newest, at))
	}
	return errors.Join(faults...)
}

func (s *Store) compact(ctx context.Context, k engine.FleetKey, newest int64, at time.Time) error {
	before := newest - day.Milliseconds()
	if s.merged(k, newest) && s.merged(k, before) {
		return nil
	}
	if _, err := s.days(ctx, k, newest, at); err != nil {
		return err
	}
	for _, start := range []int64{before, newest} {
		if s.merged(k, start) {
			continue
		}
		whole, err := s.merge(ctx, k, start)
		if err != nil {
			return err
		}
		p := place{dayPartition(k), daySort(start)}
		first, err := s.put(ctx, p, whole, start+daysKept.Milliseconds())
		if err != nil {
			return err
		}
		if first {
			s.memory.Add(p, memory{sketch: whole})
		}
	}
	return nil
}

// merged reports whether a day is known to be merged.
func (s *Store) merged(k engine.FleetKey, start int64) bool {
	m, ok := s.memory.Get(place{dayPartition(k), daySort(start)})
	return ok && m.sketch != nil
}

// merge reads all windows of a day. A day without samples gets an empty sketch, so that it is not
// merged again. Windows are cached, because one invocation may not have time for all windows of a
// large fleet.
func (s *Store) merge(ctx context.Context, k engine.FleetKey, start int64) (*sketch.Sketch, error) {
	all := &sketch.Sketch{}
	var mutex sync.Mutex
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(parallel)
	var windows []place
	for w := start; w < start+day.Milliseconds(); w += k.Window.Duration().Milliseconds() {
		p := place{pk: windowPartition(k, w)}
		windows = append(windows, p)
		reads.Go(func() error {
			m, ok := s.memory.Get(p)
			if !ok {
				read, err := s.window(ctx, k, w)
				if err != nil {
					return err
				}
				m = memory{sketch: read}
				s.memory.Add(p, m)
			}
			mutex.Lock()
			defer mutex.Unlock()
			all.Merge(m.sketch)
			return nil
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	for _, p := range windows {
		s.memory.Remove(p) // for many populations they exceed the function's memory
	}
	return all, nil
}
