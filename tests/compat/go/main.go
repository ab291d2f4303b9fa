// franz-go: takes one call a line, as JSON, and answers each with one line. compat/client.py is the other end.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type message struct {
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Timestamp int64    `json:"timestamp"`
	Partition int32    `json:"partition"`
	Headers   [][2]any `json:"headers"`
}

type request struct {
	Call, Topic, Codec, Bootstrap, Member, Group, Protocol, Name, Producer, ID, Outcome string
	Messages                                                                            []message
	Values                                                                              [][]byte
	Idempotent, Committed                                                               bool
	Count                                                                               int
	Since                                                                               int64
	Partitions                                                                          int32
	Config                                                                              map[string]*string
	Consumed                                                                            *consumed
}

type consumed struct {
	Group, Topic string
	Offset       int
}

type member struct {
	client   *kgo.Client
	assigned map[int32]bool
}

var (
	bootstrap = os.Args[1]
	producers = map[string]*kgo.Client{}
	sessions  = map[string]*kgo.GroupTransactSession{}
	members   = map[string]*member{}
	codecs    = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
)

func main() {
	lines := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r request
		err = json.Unmarshal(line, &r)
		var result any
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			result, err = answer(ctx, r)
			cancel()
		}
		if err != nil {
			answers.Encode(map[string]any{"error": err.Error()})
		} else {
			answers.Encode(map[string]any{"result": result})
		}
	}
}

func answer(ctx context.Context, r request) (any, error) {
	switch r.Call {
	case "produce":
		return nil, produce(ctx, r)
	case "read":
		return read(ctx, r)
	case "join":
		return nil, join(r)
	case "poll":
		return poll(ctx, members[r.Member])
	case "commit":
		return nil, members[r.Member].client.CommitUncommittedOffsets(ctx)
	case "leave":
		members[r.Member].client.CloseAllowingRebalance()
		delete(members, r.Member)
		return nil, nil
	case "transact":
		return nil, transact(ctx, r)
	default:
		return administer(ctx, r)
	}
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.ClientID("franz-go"),
		kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(100 * time.Millisecond)}, options...)...)
}

// producer makes one for a key, or gives the one that is there.
func producer(key string, options ...kgo.Opt) (*kgo.Client, error) {
	if made, ok := producers[key]; ok {
		return made, nil
	}
	made, err := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	producers[key] = made
	return made, err
}

func produce(ctx context.Context, r request) error {
	options := []kgo.Opt{kgo.SeedBrokers(r.Bootstrap), kgo.ProducerBatchCompression(codecs[r.Codec])}
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	sender, err := producer(fmt.Sprint(r.Bootstrap, r.Codec, r.Idempotent), options...)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for _, m := range r.Messages {
		record := &kgo.Record{Topic: r.Topic, Partition: m.Partition, Key: m.Key, Value: m.Value,
			Timestamp: time.UnixMilli(m.Timestamp)}
		for _, header := range m.Headers {
			var value []byte
			encoded, _ := json.Marshal(header[1])
			if err := json.Unmarshal(encoded, &value); err != nil {
				return err
			}
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header[0].(string), Value: value})
		}
		records = append(records, record)
	}
	return sender.ProduceSync(ctx, records...).FirstErr()
}

func read(ctx context.Context, r request) (any, error) {
	start := kgo.NewOffset().AtStart()
	if r.Since >= 0 {
		start = kgo.NewOffset().AfterMilli(r.Since)
	}
	isolation := kgo.ReadUncommitted()
	if r.Committed {
		isolation = kgo.ReadCommitted()
	}
	reader, err := client(kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: {0: start}}))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	got := []message{}
	for len(got) < r.Count {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return got, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			m := message{Key: record.Key, Value: record.Value, Timestamp: record.Timestamp.UnixMilli(), Headers: [][2]any{}}
			for _, header := range record.Headers {
				m.Headers = append(m.Headers, [2]any{header.Key, header.Value})
			}
			got = append(got, m)
		})
	}
	return got, nil
}

func join(r request) error {
	m := &member{assigned: map[int32]bool{}}
	lost := func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
		for _, partition := range gone[r.Topic] {
			delete(m.assigned, partition)
		}
	}
	// The callbacks run while a poll is waited for and at no other time, since rebalances are blocked meanwhile.
	options := []kgo.Opt{kgo.HeartbeatInterval(300 * time.Millisecond), kgo.SessionTimeout(30 * time.Second)}
	if r.Protocol == "consumer" {
		options = []kgo.Opt{kgo.ServerSideBalancer()}
	}
	made, err := client(append(options,
		kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			for _, partition := range got[r.Topic] {
				m.assigned[partition] = true
			}
		}),
		kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost))...)
	m.client = made
	members[r.Member] = m
	return err
}

func poll(ctx context.Context, m *member) (any, error) {
	m.client.AllowRebalance()
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	values := [][]byte{}
	m.client.PollFetches(ctx).EachRecord(func(record *kgo.Record) { values = append(values, record.Value) })
	return map[string]any{"values": values, "assigned": len(m.assigned)}, nil
}

func transact(ctx context.Context, r request) error {
	if r.Consumed != nil {
		return transform(ctx, r)
	}
	sender, err := producer(r.Producer, kgo.TransactionalID(r.ID))
	if err != nil {
		return err
	}
	if err := sender.BeginTransaction(); err != nil {
		return err
	}
	for _, value := range r.Values {
		if err := sender.ProduceSync(ctx, &kgo.Record{Topic: r.Topic, Value: value}).FirstErr(); err != nil {
			return err
		}
	}
	return sender.EndTransaction(ctx, kgo.TransactionEndTry(r.Outcome == "commit"))
}

// transform commits what a session has consumed with what it produces: offsets are not given by hand here.
func transform(ctx context.Context, r request) error {
	session, ok := sessions[r.Producer]
	if !ok {
		made, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(r.ID),
			kgo.ConsumerGroup(r.Consumed.Group), kgo.ConsumeTopics(r.Consumed.Topic), kgo.RequireStableFetchOffsets(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			return err
		}
		session, sessions[r.Producer] = made, made
	}
	for polled := 0; polled < r.Consumed.Offset; {
		fetches := session.PollRecords(ctx, r.Consumed.Offset-polled)
		if err := fetches.Err(); err != nil {
			return err
		}
		polled += fetches.NumRecords()
	}
	if err := session.Begin(); err != nil {
		return err
	}
	for _, value := range r.Values {
		if err := session.ProduceSync(ctx, &kgo.Record{Topic: r.Topic, Value: value}).FirstErr(); err != nil {
			return err
		}
	}
	commit := r.Outcome == "commit"
	ended, err := session.End(ctx, kgo.TransactionEndTry(commit))
	if err == nil && ended != commit {
		err = fmt.Errorf("the session chose to abort")
	}
	return err
}

func administer(ctx context.Context, r request) (any, error) {
	made, err := producer("admin")
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(made)
	switch r.Call {
	case "createTopic":
		_, err := admin.CreateTopic(ctx, r.Partitions, 1, r.Config, r.Topic)
		return nil, err
	case "topicConfig":
		described, err := admin.DescribeTopicConfigs(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		for _, config := range described[0].Configs {
			if config.Key == r.Name {
				return config.Value, nil
			}
		}
		return nil, fmt.Errorf("no %s", r.Name)
	case "growTopic":
		grown, err := admin.UpdatePartitions(ctx, int(r.Partitions), r.Topic)
		if err != nil {
			return nil, err
		}
		return nil, grown.Error()
	case "topics":
		listed, err := admin.ListTopics(ctx)
		topics := map[string]int{}
		for name, topic := range listed {
			topics[name] = len(topic.Partitions)
		}
		return topics, err
	case "deleteTopic":
		deleted, err := admin.DeleteTopics(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		return nil, deleted.Error()
	}
	return nil, fmt.Errorf("no call %s", r.Call)
}
