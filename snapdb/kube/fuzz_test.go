package kube

import (
	"encoding/binary"
	"testing"
	"time"
)

// seeds gives stored objects of all encodings to a fuzz target.
func seeds(tb testing.TB, add func([]byte)) {
	tb.Helper()
	kinds := map[Encoding]int{}
	give := func(values ...[]byte) {
		for _, v := range values {
			kinds[DecodeEnvelope(v).Encoding]++
			add(v)
		}
	}
	for _, o := range samples() {
		give(stored(tb, o))
	}
	for provider := range byAPIServer {
		give(encrypted(tb, provider))
	}
	give([]byte("k8s:enc:kms:v2:vault:"+kmsV2("7")), []byte("5987"))
	for _, e := range []Encoding{Protobuf, JSON, CBOR, Encrypted, Unknown} {
		if kinds[e] == 0 {
			tb.Fatalf("no %s among the seeds", e)
		}
	}
}

func TestSeedsExist(t *testing.T) {
	n := 0
	seeds(t, func([]byte) { n++ })
	if n < 20 {
		t.Fatalf("%d seeds", n)
	}
}

func FuzzEnvelope(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	config := config(f, "secrets", "aescbc/key1/"+rawKey, "aesgcm/key1/"+rawKey, "secretbox/key1/"+rawKey)
	f.Fuzz(func(t *testing.T, b []byte) {
		e := DecodeEnvelope(b)
		if len(e.Raw)+len(e.Kind)+len(e.APIVersion)+len(e.KeyName)+len(e.Provider)+len(e.Version) > len(b) && e.Encoding != Protobuf {
			t.Fatalf("the parts are more than the whole: %+v", e)
		}
		if (e.Encoding == Encrypted) != (len(e.Provider) > 0) {
			t.Fatalf("%+v", e)
		}
		if plain, err := config.Decrypt([]byte(secretKey), b); err == nil && len(plain) >= len(b) {
			t.Fatalf("%d bytes came out of %d", len(plain), len(b))
		}
	})
}

func FuzzMeta(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMeta(DecodeEnvelope(b))
		if err != nil {
			return
		}
		if len(m.Name) > 3*len(b) || len(m.Owners) > maxListed || len(m.Managed) > maxListed || len(m.Finalizers) > 2*maxListed {
			t.Fatalf("%+v", m)
		}
		for _, at := range []time.Time{m.Created, m.Deleted, m.Renewed, m.Acquired, m.Observed} {
			if !at.IsZero() && (at.Year() < 1970 || at.Year() > 9999) {
				t.Fatalf("%v is no time", at)
			}
		}
		checks := NewChecks()
		checks.Add([]byte("k"), 1, &m)
		checks.Notes(noon)
	})
}

// clockSeed spells anchors: revision, second, kind.
func clockSeed(anchors ...[3]byte) []byte {
	var b []byte
	for _, a := range anchors {
		b = append(b, a[:]...)
	}
	return b
}

func FuzzClock(f *testing.F) {
	f.Add(clockSeed([3]byte{1, 1, 0}, [3]byte{2, 2, 1}, [3]byte{9, 200, 2}, [3]byte{10, 3, 0}))
	f.Add(clockSeed([3]byte{5, 5, 0}, [3]byte{5, 4, 0}, [3]byte{5, 6, 1}))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Clock
		for ; len(b) >= 3; b = b[3:] {
			a := Anchor{noon.Add(time.Duration(b[1]) * time.Second), FromRenewTime, time.Microsecond, b[2]%3 != 1}
			if b[2]%3 == 2 {
				a.Unit = time.Second
			}
			c.Add(int64(b[0])<<(b[2]%56), a)
		}
		for _, r := range []int64{-1 << 63, -1, 0, 1, 5, 128, 1 << 40, 1<<63 - 1} {
			e, ok := c.At(r)
			if !ok {
				continue
			}
			if e.Earliest.After(e.Time) || !e.Latest.IsZero() && e.Time.After(e.Latest) {
				t.Fatalf("%d: %+v", r, e)
			}
		}
	})
}
