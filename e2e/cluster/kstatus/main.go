// kstatus: how far every ModelDeployment of a namespace is, as Flux and `kubectl`-like tools see it.
//
// They all compute it with this library, from the object alone.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

var kind = schema.GroupVersionResource{
	Group: "serving.flambeau.dev", Version: "v1alpha1", Resource: "modeldeployments",
}

type computed struct {
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of a kubeconfig")
	namespace := flag.String("namespace", "default", "where the objects are")
	flag.Parse()
	found, err := compute(*kubeconfig, *namespace)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

// compute returns the status of each object by its name.
func compute(kubeconfig, namespace string) (map[string]computed, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := client.Resource(kind).Namespace(namespace).
		List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	found := map[string]computed{}
	for index := range list.Items {
		result, err := status.Compute(&list.Items[index])
		if err != nil {
			return nil, err
		}
		found[list.Items[index].GetName()] = computed{result.Status, result.Message}
	}
	return found, nil
}
