package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	labelRun  = "vantage6.ai/run"
	receive   = "receive"
	algorithm = "algorithm"
	returns   = "return"
)

// result is what every algorithm leaves as its output.
var result = []byte(`{"sum": 14932800.0, "count": 240}`)

// stage is where pods are played: each once.
type stage struct {
	client    kubernetes.Interface
	pods      listers.PodNamespaceLister
	namespace string
	tally     *tally
	played    sync.Map // uid → nothing
}

// look begins to play a pod once its machine has started `receive`.
func (s *stage) look(ctx context.Context, pod *core.Pod) {
	state, ok := stateOf(pod.Status.InitContainerStatuses, receive)
	if !ok || state.Running == nil || pod.DeletionTimestamp != nil {
		return
	}
	if _, known := s.played.LoadOrStore(pod.UID, nil); known {
		return
	}
	go func() {
		s.tally.begin()
		defer s.tally.end()
		if err := s.play(ctx, pod); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			s.tally.fail()
			fmt.Fprintf(os.Stderr, "pod %s: %v\n", pod.Name, err)
		}
	}()
}

func (s *stage) gone(object any) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	if pod, ok := object.(*core.Pod); ok {
		s.played.Delete(pod.UID)
	}
}

// play is the life of a run's pod as its own two containers see it.
func (s *stage) play(ctx context.Context, pod *core.Pod) error {
	port, err := s.dataPort(ctx, pod)
	if err != nil {
		return err
	}
	input, err := port.until(ctx, http.MethodGet, "input", nil)
	if err != nil {
		return err
	}
	token, err := port.until(ctx, http.MethodGet, "token", nil)
	if err != nil {
		return err
	}
	s.tally.execute(pod.Labels[labelRun], len(input), len(token))
	if err := s.start(ctx, pod); err != nil {
		return err
	}
	sent := false
	for {
		order, err := port.until(ctx, http.MethodGet, "next", nil)
		if err != nil {
			return err
		}
		switch string(order) {
		case "wait":
		case "go":
			// It has the output after all: the answer was lost, or the server's to the node.
			if sent {
				s.tally.deliver()
			}
			return s.finish(ctx, pod)
		case "send":
			// As `return` does: after a "not now" it asks what is to be done before it sends again.
			said, err := port.once(ctx, http.MethodPut, "output", result)
			if err == nil {
				if string(said) != "go" {
					return fmt.Errorf("an output is answered by %q", said)
				}
				s.tally.deliver()
				return s.finish(ctx, pod)
			}
			if errors.As(err, new(refused)) {
				return err
			}
			sent = true
			pause(ctx, 500*time.Millisecond)
		default:
			return fmt.Errorf("there is no order %q", order)
		}
	}
}

// start is the machine's word that `receive` has ended well, and that the other two run.
func (s *stage) start(ctx context.Context, pod *core.Pod) error {
	now := v1.Now()
	init := ended(pod.Status.InitContainerStatuses, receive, now)
	running := core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: now}}
	var containers []core.ContainerStatus
	for _, container := range pod.Spec.Containers {
		yes := true
		containers = append(containers, core.ContainerStatus{Name: container.Name, Image: container.Image, Ready: true, Started: &yes, State: running})
	}
	return s.tell(ctx, pod, core.PodStatus{Phase: core.PodRunning, InitContainerStatuses: init, ContainerStatuses: containers})
}

// finish is its word that `return` has ended too, and with it the pod. What became of the algorithm is in the pod.
func (s *stage) finish(ctx context.Context, pod *core.Pod) error {
	for ctx.Err() == nil {
		latest, err := s.pods.Get(pod.Name)
		if err != nil {
			return err
		}
		state, _ := stateOf(latest.Status.ContainerStatuses, algorithm)
		if latest.DeletionTimestamp != nil {
			return nil
		}
		if state.Terminated != nil {
			statuses := ended(latest.Status.ContainerStatuses, returns, v1.Now())
			return s.tell(ctx, pod, core.PodStatus{Phase: core.PodSucceeded, ContainerStatuses: statuses})
		}
		pause(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

// tell says it as a kubelet does, until it is heard: an API server may be too busy.
func (s *stage) tell(ctx context.Context, pod *core.Pod, status core.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	for {
		_, err = s.client.CoreV1().Pods(s.namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, v1.PatchOptions{}, "status")
		if err == nil || ctx.Err() != nil || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return err
		}
		pause(ctx, time.Second)
	}
}

// ended gives a copy of the statuses in which one container has ended well.
func ended(statuses []core.ContainerStatus, name string, now v1.Time) []core.ContainerStatus {
	changed := make([]core.ContainerStatus, len(statuses))
	copy(changed, statuses)
	for i := range changed {
		if changed[i].Name == name {
			changed[i].Ready = false
			changed[i].State = core.ContainerState{Terminated: &core.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}}
		}
	}
	return changed
}

func stateOf(statuses []core.ContainerStatus, name string) (core.ContainerState, bool) {
	for _, status := range statuses {
		if status.Name == name {
			return status.State, true
		}
	}
	return core.ContainerState{}, false
}

// pause waits, but not beyond the end of everything.
func pause(ctx context.Context, time_ time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time_):
	}
}
