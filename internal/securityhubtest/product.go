package securityhubtest

import "strings"

// product is a source of findings.
type product struct {
	id            string // COMPANY/PRODUCT
	name, company string
}

// nativeProducts are the AWS integrations that are supported here.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/securityhub-integration.html
var nativeProducts = []product{
	{"aws/iot-device-defender-audit", "IoT Device Defender - Audit", "AWS"},
	{"aws/iot-device-defender-detect", "IoT Device Defender - Detect", "AWS"},
}

// DefaultProductARN returns the product for which the account imports its own findings. It needs
// no subscription.
func (h *Hub) DefaultProductARN() string { return h.arn("product/" + h.account + "/default") }

// defaultProduct has the names that Security Hub gives to an account's own findings.
func (h *Hub) defaultProduct() product {
	return product{id: h.account + "/default", name: "Default", company: "Personal"}
}

func (h *Hub) nativeProductARN(p product) string {
	return "arn:" + h.partition + ":securityhub:" + h.region + "::product/" + p.id
}

func (h *Hub) subscriptionARN(p product) string { return h.arn("product-subscription/" + p.id) }

func (h *Hub) nativeProduct(arn string) (product, bool) {
	for _, p := range nativeProducts {
		if h.nativeProductARN(p) == arn {
			return p, true
		}
	}
	return product{}, false
}

// isProductARN reports whether arn has the format of a product ARN, of any account and Region.
func isProductARN(arn string) bool {
	parts := strings.SplitN(arn, ":", 6)
	return len(parts) == 6 && parts[0] == "arn" && strings.HasPrefix(parts[1], "aws") &&
		parts[2] == "securityhub" && parts[3] != "" &&
		strings.HasPrefix(parts[5], "product/") && strings.Count(parts[5], "/") == 2
}
