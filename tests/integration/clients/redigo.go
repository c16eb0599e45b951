// redigo against a node: redigo PORT
package main

import (
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"time"

	"github.com/gomodule/redigo/redis"
)

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func same(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		log.Output(2, fmt.Sprintf("found %#v instead of %#v", found, expected))
		os.Exit(1)
	}
}

func main() {
	log.SetFlags(log.Lshortfile)
	pool := &redis.Pool{
		MaxIdle: 3,
		Dial: func() (redis.Conn, error) {
			return redis.Dial("tcp", "127.0.0.1:"+os.Args[1],
				redis.DialClientName("tester"), redis.DialDatabase(0),
				redis.DialReadTimeout(10*time.Second))
		},
		TestOnBorrow: func(c redis.Conn, t time.Time) error {
			_, err := c.Do("PING")
			return err
		},
	}
	defer pool.Close()
	conn := pool.Get()
	defer conn.Close()
	_, err := conn.Do("FLUSHALL")
	must(err)

	text, err := redis.String(conn.Do("SET", "k", "v", "PX", 100000))
	must(err)
	same(text, "OK")
	text, err = redis.String(conn.Do("GET", "k"))
	must(err)
	same(text, "v")
	_, err = redis.String(conn.Do("GET", "none"))
	same(err, redis.ErrNil)
	number, err := redis.Int64(conn.Do("INCRBY", "n", 5))
	must(err)
	same(number, int64(5))
	_, err = conn.Do("HSET", redis.Args{}.Add("h").AddFlat(map[string]int{"f": 1, "g": 2})...)
	must(err)
	fields, err := redis.IntMap(conn.Do("HGETALL", "h"))
	must(err)
	same(fields, map[string]int{"f": 1, "g": 2})
	_, err = conn.Do("LPUSH", "k", "x")
	same(err, redis.Error("WRONGTYPE Operation against a key holding the wrong kind of value"))

	// Pipelining by hand.
	for i := 0; i < 100; i++ {
		must(conn.Send("RPUSH", "l", i))
	}
	must(conn.Send("LRANGE", "l", 97, -1))
	must(conn.Flush())
	for i := 0; i < 100; i++ {
		length, err := redis.Int(conn.Receive())
		must(err)
		same(length, i+1)
	}
	last, err := redis.Ints(conn.Receive())
	must(err)
	same(last, []int{97, 98, 99})

	// SCAN, followed to its end.
	var keys []string
	cursor := "0"
	for {
		page, err := redis.Values(conn.Do("SCAN", cursor, "COUNT", 100))
		must(err)
		var part []string
		_, err = redis.Scan(page, &cursor, &part)
		must(err)
		keys = append(keys, part...)
		if cursor == "0" {
			break
		}
	}
	sort.Strings(keys)
	same(keys, []string{"h", "k", "l", "n"})

	// Transactions, with and without success.
	must(conn.Send("MULTI"))
	must(conn.Send("INCR", "n"))
	must(conn.Send("GET", "n"))
	values, err := redis.Values(conn.Do("EXEC"))
	must(err)
	same(values, []interface{}{int64(6), []byte("6")})
	other := pool.Get()
	_, err = conn.Do("WATCH", "n")
	must(err)
	_, err = other.Do("SET", "n", "7")
	must(err)
	must(conn.Send("MULTI"))
	must(conn.Send("SET", "n", "8"))
	reply, err := conn.Do("EXEC")
	must(err)
	same(reply, nil)
	number, err = redis.Int64(conn.Do("GET", "n"))
	must(err)
	same(number, int64(7))

	name, err := redis.String(conn.Do("CLIENT", "GETNAME"))
	must(err)
	same(name, "tester")
	// A connection that goes back to the pool in the middle of MULTI and WATCH is cleaned.
	must(other.Send("MULTI"))
	_, err = other.Do("SET", "n", "9")
	must(err)
	must(other.Close())
	again := pool.Get()
	number, err = redis.Int64(again.Do("GET", "n"))
	must(err)
	same(number, int64(7))
	must(again.Close())
	fmt.Println("passed")
}
