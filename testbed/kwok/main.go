// Command pods does what the containers `receive` and `return` do, for pods on fake machines, where nothing runs:
//
//	pods --kubeconfig FILE --namespace NAMESPACE
//
// KWOK plays the machines and the algorithms (kwok.yaml); each run's pod is played here, by the real protocol with the node's
// data port: over TLS 1.3 with its pinned key, with the run's own key from its Secret. As a pod has an address of its own, so has
// each played one: one of 127.0.0.0/8. Every second, and at its end, it prints what it has done as a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how the cluster is reached")
	namespace := flag.String("namespace", "", "the namespace of the runs")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, *kubeconfig, *namespace); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// Hundreds of pods are played at once: they are what a thousand kubelets would ask.
	config.QPS, config.Burst = -1, 0
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.UserAgent = "sextant-testbed-pods"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	runs := informers.WithTweakListOptions(func(options *v1.ListOptions) { options.LabelSelector = labelRun })
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace), runs)
	pods := factory.Core().V1().Pods()
	stage := &stage{client: client, pods: pods.Lister().Pods(namespace), namespace: namespace, tally: newTally()}
	look := func(object any) {
		if pod, ok := object.(*core.Pod); ok {
			stage.look(ctx, pod)
		}
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, object any) { look(object) },
		DeleteFunc: func(object any) { stage.gone(object) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	encoder := json.NewEncoder(os.Stdout)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		if err := encoder.Encode(stage.tally.read()); err != nil {
			return err
		}
	}
	return nil
}
