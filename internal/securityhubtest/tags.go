package securityhubtest

import "maps"

// listTagsForResource returns the tags of a hub: no other resource has tags here.
func listTagsForResource(r *request) (any, error) {
	settings, on := r.hub.Settings()
	if !on || r.arn != r.hub.ARN() {
		return nil, notFound("Resource %s not found", r.arn)
	}
	tags := map[string]string{}
	maps.Copy(tags, settings.Tags)
	return struct{ Tags map[string]string }{tags}, nil
}
