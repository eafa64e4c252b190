package main

import "sync"

// tally counts what was done.
type tally struct {
	mutex sync.Mutex
	now   Figures
	runs  map[string]int
}

// Figures are what the tests read.
type Figures struct {
	Playing    int `json:"playing"`    // pods being played now
	Most       int `json:"most"`       // the most at once
	Executions int `json:"executions"` // algorithms started
	Twice      int `json:"twice"`      // runs whose algorithm was started more than once
	Delivered  int `json:"delivered"`  // outputs that the node has confirmed
	Again      int `json:"again"`      // requests that were answered by "not now", or not at all
	Failed     int `json:"failed"`     // pods that could not be played to their end
	InputBytes int `json:"input_bytes"`
}

func newTally() *tally { return &tally{runs: map[string]int{}} }

func (t *tally) change(change func(*Figures)) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	change(&t.now)
}

func (t *tally) begin() {
	t.change(func(now *Figures) { now.Playing++; now.Most = max(now.Most, now.Playing) })
}
func (t *tally) end()     { t.change(func(now *Figures) { now.Playing-- }) }
func (t *tally) deliver() { t.change(func(now *Figures) { now.Delivered++ }) }
func (t *tally) again()   { t.change(func(now *Figures) { now.Again++ }) }
func (t *tally) fail()    { t.change(func(now *Figures) { now.Failed++ }) }

// execute counts a start of a run's algorithm, for which it has its input and its token.
func (t *tally) execute(run string, input, token int) {
	t.change(func(now *Figures) {
		now.Executions++
		if t.runs[run]++; t.runs[run] == 2 {
			now.Twice++
		}
		now.InputBytes += input
		if token == 0 {
			now.Failed++
		}
	})
}

func (t *tally) read() Figures {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.now
}
